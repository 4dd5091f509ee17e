"""Safe loading and storing of weights."""
