"""Encoder architectures with one common interface."""
