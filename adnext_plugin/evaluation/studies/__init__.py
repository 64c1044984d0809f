"""Whole questions asked of a run: evaluation, comparison, baselines, seeds."""
