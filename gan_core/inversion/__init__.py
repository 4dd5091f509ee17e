"""Refining an inversion: pivotal tuning and projection."""
