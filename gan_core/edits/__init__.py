"""The kinds of edits; each kind is one file."""
