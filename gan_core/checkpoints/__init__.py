"""Safe loading and saving of weights."""
