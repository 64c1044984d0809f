"""Placeholder replaced by the importing task."""
