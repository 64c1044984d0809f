"""Clinical covariates beside the image, for any network."""

import torch
from torch import nn

from adnext_plugin.networks.classifier import in_float32


class WithCovariates(nn.Module):
    """Adds a linear function of covariates to the outputs of a network.

    For a network that ends in a linear layer this is what concatenating the covariates to that layer's input gives.

    Args:
        network: maps (B, C, Z, Y, X) to (B, outputs).
        covariates: how many there are.
        num_outputs: of the network.
    """

    def __init__(self, network: nn.Module, covariates: int, num_outputs: int) -> None:
        super().__init__()
        self.network = network
        self.covariate_head = nn.Linear(covariates, num_outputs, bias=False)
        nn.init.zeros_(self.covariate_head.weight)

    def forward(self, x_bczyx: torch.Tensor, covariates_bk: torch.Tensor) -> torch.Tensor:
        return self.network(x_bczyx) + in_float32(self.covariate_head, covariates_bk)


def network_of_images(network: nn.Module) -> nn.Module:
    """The network without what covariates add."""
    return network.network if isinstance(network, WithCovariates) else network
