"""Landmarks, the FFHQ crop, and its way back."""
