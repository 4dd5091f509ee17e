"""Encoder architectures behind one protocol."""
