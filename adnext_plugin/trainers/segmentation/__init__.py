"""Trainers of segmentation: nnU-Net's own work with our networks, recipes and pre-trained weights."""
