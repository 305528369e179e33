"""The suite of 30 DeepMind Lab levels. Importing it imports neither TensorFlow nor DeepMind Lab."""
