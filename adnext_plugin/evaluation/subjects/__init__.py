"""Predictions of subjects, and the files they are read from."""
