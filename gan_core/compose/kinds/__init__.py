"""What an entry of the composition plan can be, one file for operations that belong together."""
