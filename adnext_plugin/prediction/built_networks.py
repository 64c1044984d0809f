"""The network of a trained model, with fresh weights: the plan's, or that of a trainer which builds its own.

A plan says how most networks are built. A trainer that overrides `build_network` has to be installed where its models
predict, under the name that the model was trained with; no model brings code.
"""

from collections.abc import Iterator

from torch import nn

from adnext_plugin.errors import RegistryError
from adnext_plugin.networks.build import build_planned_network
from adnext_plugin.nnunet_lookup import find_in_files
from adnext_plugin.prediction.description import ModelDescription
from adnext_plugin.registry import TRAINERS, load, registered_names


def possible_networks(description: ModelDescription) -> Iterator[nn.Module]:
    """The plan's network, and after it the trainer's where that is installed here."""
    yield build_planned_network(description.plan, description.in_channels)
    build = getattr(_trainer(description.trainer), "build_network", None)
    if build is not None:
        yield build(description.plan, description.in_channels)


def _trainer(name: str) -> type | None:
    if name in registered_names(TRAINERS):
        try:
            return load(TRAINERS, name)
        except RegistryError:
            return None
    return find_in_files(name)
