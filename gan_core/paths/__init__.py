"""Paths through latent space that change one thing of a picture: linear, warped and curvilinear models of them."""
