"""Checkpoints of other projects, one file each: whose they are, what they expect, and what our networks call them."""
