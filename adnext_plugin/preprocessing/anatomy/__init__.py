"""Tissue and regions of a brain in MNI152 space."""
