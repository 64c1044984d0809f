"""Networks on the Hugging Face hub: a folder of config.json and model.safetensors, from which they are built again."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import nn

from adnext_plugin.networks.build import build_network
from adnext_plugin.plan import NetworkSettings


class HubNetwork(nn.Module, PyTorchModelHubMixin):
    """Any registered network, with all that is needed to build it again and to prepare scans for it.

    `HubNetwork.from_pretrained(FOLDER_OR_REPOSITORY)` gives it back. What is not about the network is kept as it is in
    config.json.

    Args:
        network: a name of `adnext_list networks`.
        options: of the network.
        in_channels: images of a scan.
        num_outputs: classes, or 1 for a number.
        input_size_voxels: (Z, Y, X) of what it is fed.
        preprocessing: how scans become inputs, as in a plan.
        task: what the outputs mean; None of an encoder alone.
        target_scale: mean and standard deviation that a number counts in.
    """

    def __init__(
        self,
        network: str,
        options: Mapping[str, Any],
        in_channels: int,
        num_outputs: int,
        input_size_voxels: Sequence[int],
        preprocessing: Mapping[str, Any],
        task: Mapping[str, Any] | None = None,
        target_scale: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        z, y, x = (int(size) for size in input_size_voxels)
        settings = NetworkSettings(name=network, options=dict(options))
        self.network = build_network(settings, in_channels, num_outputs, (z, y, x))

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        """Outputs (B, K) of scans (B, C, Z, Y, X) that were prepared as config.json says."""
        return self.network(x_bczyx)
