"""Generator families with one common interface."""
