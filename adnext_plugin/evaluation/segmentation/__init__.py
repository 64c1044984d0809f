"""Segmentations of held-out cases: Dice as nnU-Net wrote it, how sure it is, and which of two runs is better."""
