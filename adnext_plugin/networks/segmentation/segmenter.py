"""What all segmentation networks have in common, and what nnU-Net wants of them.

nnU-Net's trainer and predictor set `network.decoder.deep_supervision`. Its `-pretrained_weights` demands of a file
every tensor of a network and takes it over, save for those with `.seg_layers.` in their names. What is to begin afresh
goes by such a name: with a U-Net's decoder all of it, so that a file of an encoder alone will do.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from adnext_plugin.networks.pyramid import Pyramid
from adnext_plugin.networks.recomputation import MayRecompute

Logits = torch.Tensor | list[torch.Tensor]


class SegmentationDecoder(MayRecompute):
    """From an encoder's levels, and the scan, to logits (B, classes, Z, Y, X)."""

    deep_supervision = False  # give the logits of coarser levels, too, the finest first

    def forward(self, levels: Sequence[torch.Tensor], scan_bczyx: torch.Tensor) -> Logits:
        raise NotImplementedError


class Segmenter(nn.Module):
    """An encoder that gives its levels, and a decoder: scans (B, C, Z, Y, X) to logits (B, classes, Z, Y, X)."""

    key_to_encoder = "encoder"  # what -pretrained_weights of adnext_train demands of a file
    key_to_decoder = "decoder"  # and what it takes over besides, `seg_layers` apart, where a file has all of it

    def __init__(self, encoder: nn.Module, decoder: SegmentationDecoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, scan_bczyx: torch.Tensor) -> Logits:
        return self.decoder(cast(Pyramid, self.encoder).levels(scan_bczyx), scan_bczyx)
