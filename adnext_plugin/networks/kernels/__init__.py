"""Kernels of our own for GPUs, written in Triton, and the choice between them and PyTorch's."""
