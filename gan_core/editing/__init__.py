"""Editing directions: how to find, measure, store and apply them."""
