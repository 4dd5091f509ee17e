"""Refine an inversion: pivotal tuning and projection."""
