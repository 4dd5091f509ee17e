"""Landmarks, the FFHQ crop, and pasting a crop back into its image."""
