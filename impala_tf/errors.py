"""The errors that users can mend."""


class UserError(Exception):
  """Its message is all that its user needs: what is wrong, where, and what to do. Commands print it
  in place of a traceback.
  """
