"""Nightly re-evaluation: how much metrics vary by chance, which have moved further, and a page about all nights."""
