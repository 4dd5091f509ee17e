"""Generator families behind one protocol."""
