"""The stages of a run, rows in and rows out; what they do to pictures is in the packages below."""
