"""Masked reconstruction and contrast at once."""
