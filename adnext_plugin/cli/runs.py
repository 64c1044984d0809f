"""How commands are told of a trained run and of a device."""

import json
from argparse import ArgumentParser, Namespace, _ArgumentGroup
from collections.abc import Sequence
from typing import Any

from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import SettingsError
from adnext_plugin.names import names_in
from adnext_plugin.paths import CONFIGURATION, PLANS_NAME
from adnext_plugin.workflows.common import DatasetRequest
from adnext_plugin.workflows.unnamed_trainer import trainer_that_was_trained, trainer_to_begin_with


def add_dataset_argument(parser: ArgumentParser) -> None:
    """Add the dataset, by number or name."""
    parser.add_argument("dataset", help="dataset number or name")


TRAINED = "the only one that the dataset was trained with"
RECOMMENDED = "the one that planning recommends for this cohort and machine"


def add_trainer_argument(parser: ArgumentParser, otherwise: str = TRAINED, default: str | None = None) -> None:
    """Add the trainer's name; `otherwise` says which is meant where it is left out and there is no `default`."""
    parser.add_argument("--trainer", "-tr", default=default, help=f"trainer name (default: {default or otherwise})")


def add_plans_argument(parser: ArgumentParser) -> None:
    """Add the plans' name."""
    parser.add_argument("--plans", "-p", default=PLANS_NAME, help="plans name (default: %(default)s)")


def add_configuration_argument(parser: ArgumentParser) -> None:
    """Add the configuration of the plans, for commands that take it as an option."""
    parser.add_argument("--configuration", "-c", default=CONFIGURATION, help="default: %(default)s")


def add_run_arguments(parser: ArgumentParser, otherwise: str = TRAINED) -> None:
    """Add what names a run: dataset, trainer, plans and configuration."""
    add_dataset_argument(parser)
    add_trainer_argument(parser, otherwise)
    add_plans_argument(parser)
    add_configuration_argument(parser)


def trained(arguments: Namespace) -> Namespace:
    """The arguments, with the trainer that the dataset was trained with where none was named."""
    if arguments.trainer is None:
        arguments.trainer = trainer_that_was_trained(_dataset(arguments), print)
    return arguments


def recommended(arguments: Namespace) -> Namespace:
    """The arguments, with the trainer that planning recommends where none was named."""
    if arguments.trainer is None:
        arguments.trainer = trainer_to_begin_with(_dataset(arguments), arguments.device, print)
    return arguments


def _dataset(arguments: Namespace) -> DatasetRequest:
    names = ("dataset", "plans", "configuration")
    return DatasetRequest(**{name: getattr(arguments, name) for name in names})


def add_device_argument(parser: ArgumentParser, purpose: str = "") -> None:
    """Add the device to compute on; `purpose` says for what, where a command rarely computes."""
    parser.add_argument(
        "--device", "-device", choices=["cuda", "cpu", "mps"], help=f"{purpose}default: cuda where there is a GPU"
    )


def add_processes_argument(options: ArgumentParser | _ArgumentGroup, most: int = 8) -> None:
    """Add how many scans to work on at once; by default as many as there are processors, but no more than `most`."""
    options.add_argument("--processes", "-np", type=int, default=min(most, usable_cpus()), help="default: %(default)s")


def read_settings(items: Sequence[str], what_to_do: str) -> dict[str, Any]:
    """What `--set KEY=VALUE ...` gives, values as JSON, or as text where they are none.

    Args:
        items: of the option.
        what_to_do: with an item that has no "=", for the message.

    Raises:
        SettingsError: an item has no "=".
    """
    settings: dict[str, Any] = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator:
            raise SettingsError(f"--set {item}: {what_to_do}")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    return settings


def baselines_in(items: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """What `--baseline A,B ...` gives: the columns of each linear model."""
    return tuple(names_in(item) for item in items)
