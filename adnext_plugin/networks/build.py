"""Building any registered network from what a plan says."""

import inspect

from torch import nn

from adnext_plugin.errors import SettingsError, nearest_names
from adnext_plugin.networks.with_covariates import WithCovariates
from adnext_plugin.plan import NetworkSettings, Plan
from adnext_plugin.registry import NETWORKS, load


def build_network(
    settings: NetworkSettings, in_channels: int, num_outputs: int, input_size_voxels: tuple[int, int, int]
) -> nn.Module:
    """Build a network with fresh weights drawn from torch's global generator.

    Raises:
        UnknownNameError: no network of that name.
        SettingsError: it has no such option, or no network is named.
    """
    if settings.name is None:
        raise SettingsError("the plan names no network and the trainer neither; name one in the preset")
    builder = load(NETWORKS, settings.name)
    known = inspect.signature(builder).parameters
    for option in settings.options:
        if option not in known:
            raise SettingsError(f"network {settings.name!r} has no option {option!r}{nearest_names(option, known)}")
    return builder(in_channels, num_outputs, input_size_voxels, **settings.options)


def build_planned_network(plan: Plan, in_channels: int) -> nn.Module:
    """Build the network of a complete plan, with its task's outputs and a place for its covariates.

    Raises:
        SettingsError: the plan names covariates beside those that the network takes by itself.
    """
    outputs = plan.known_task.num_outputs
    network = build_network(plan.network, in_channels, outputs, plan.network_input_voxels)
    covariates = plan.training.get("covariates", ())
    own_columns: tuple[str, ...] = getattr(network, "columns", ())
    if covariates and own_columns:
        raise SettingsError(
            f"network {plan.network.name} takes {', '.join(own_columns)} by itself; leave out covariates"
        )
    return WithCovariates(network, len(covariates), outputs) if covariates else network
