"""Weights that come with the package: one folder each, with its card, its model bundle and whom it has seen."""
