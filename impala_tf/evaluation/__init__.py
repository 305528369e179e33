"""Playing without learning."""
