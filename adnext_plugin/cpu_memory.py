"""Placeholder replaced by the networks task."""
