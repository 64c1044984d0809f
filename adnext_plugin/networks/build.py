"""Building any registered network from what a plan says."""

import inspect

from torch import nn

from adnext_plugin.errors import SettingsError, nearest_names
from adnext_plugin.records import NetworkSettings
from adnext_plugin.registry import NETWORKS, load


def build_network(
    settings: NetworkSettings, in_channels: int, num_outputs: int, input_size_voxels: tuple[int, int, int]
) -> nn.Module:
    """Build a network with fresh weights drawn from torch's global generator.

    Raises:
        UnknownNameError: no network of that name.
        SettingsError: it has no such option.
    """
    builder = load(NETWORKS, settings.name)
    known = inspect.signature(builder).parameters
    for option in settings.options:
        if option not in known:
            raise SettingsError(f"network {settings.name!r} has no option {option!r}{nearest_names(option, known)}")
    return builder(in_channels, num_outputs, input_size_voxels, **settings.options)
