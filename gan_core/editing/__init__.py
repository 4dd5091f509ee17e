"""Directions and the edits made with them."""
