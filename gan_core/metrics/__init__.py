"""Measures, one file each: update, merge, compute."""
