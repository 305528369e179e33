"""The errors that users can mend."""


class UserError(Exception):
  """Error whose message is all that its user needs: what is wrong, where, and what to do.

  Commands print it in place of a traceback.
  """


class ConfigurationError(UserError, ValueError):
  """A setting that a run can't have; the message says which, why, and what to do."""
