"""Paths through latent space that each change one attribute of an image: linear, warped and curvilinear models."""
