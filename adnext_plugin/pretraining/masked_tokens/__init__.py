"""Masked modelling with encoders that work on tokens: SimMIM and MAE."""
