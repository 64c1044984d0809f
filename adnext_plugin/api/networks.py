"""Networks and trainers by name, in a Python program."""

from fnmatch import fnmatchcase
from os import PathLike
from typing import TYPE_CHECKING, Any

from adnext_plugin.errors import SettingsError, WeightsError
from adnext_plugin.registry import NETWORKS, TRAINERS, registered_names

if TYPE_CHECKING:
    from torch import nn


def list_networks(pattern: str = "*") -> list[str]:
    """Names of the networks that can be created, in alphabetical order.

    Args:
        pattern: with `*` and `?`, for example "adnext_*".
    """
    return [name for name in registered_names(NETWORKS) if fnmatchcase(name, pattern)]


def list_trainers(pattern: str = "*") -> list[str]:
    """Names of the trainers that can be trained with, in alphabetical order.

    Args:
        pattern: with `*` and `?`, for example "ADNeXtTrainer_*".
    """
    return [name for name in registered_names(TRAINERS) if fnmatchcase(name, pattern)]


def create_network(
    name: str,
    in_channels: int = 1,
    num_outputs: int = 2,
    input_size_voxels: tuple[int, int, int] = (128, 128, 128),
    *,
    pretrained: str | PathLike[str] | None = None,
    **options: Any,
) -> "nn.Module":
    """Build a network, with fresh weights or a pre-trained encoder.

    Args:
        name: one of `list_networks`.
        in_channels: images of a scan.
        num_outputs: classes, or 1 for a number.
        input_size_voxels: of what it is fed, **z, y, x**.
        pretrained: checkpoint of a run of the same network, of pre-training or of a classifier, or `builtin:NAME`,
            whose encoder is taken; the head starts afresh.
        options: of the network, for example `kernel_size=5`; docs/networks.md lists them.

    Returns:
        A module that maps (batch, channel, z, y, x) to (batch, output).

    Raises:
        UnknownNameError: there is no such network; the message has the nearest name.
        SettingsError: it has no such option, or a size is impossible.
        WeightsError: the checkpoint does not cover the encoder.
        PathsError: there is no such checkpoint.
    """
    from adnext_plugin.networks.build import build_network
    from adnext_plugin.plan import NetworkSettings

    sizes = tuple(int(size) for size in input_size_voxels)
    if len(sizes) != 3 or min(*sizes, in_channels, num_outputs) < 1:
        raise SettingsError(
            f"a network needs three sizes (z, y, x), channels and outputs from 1 on; got {list(input_size_voxels)}, "
            f"{in_channels} and {num_outputs}"
        )
    network = build_network(NetworkSettings(name=name, options=options), in_channels, num_outputs, sizes)
    if pretrained is not None:
        from adnext_plugin.builtin.weights import weights_file
        from adnext_plugin.training.weights import load_encoder

        if not hasattr(network, "key_to_encoder"):
            raise WeightsError(f"network {name} has no encoder to take over; leave out pretrained")
        load_encoder(network, weights_file(str(pretrained), "all"))
    return network
