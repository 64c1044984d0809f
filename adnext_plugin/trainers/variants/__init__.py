"""Trainers that differ from another in their settings or network alone."""
