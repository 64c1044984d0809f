"""How commands are told of a trained run and of a device."""

from argparse import ArgumentParser

from adnext_plugin.paths import CONFIGURATION, PLANS_NAME
from adnext_plugin.workflows.common import DEFAULT_TRAINER


def add_dataset_argument(parser: ArgumentParser) -> None:
    """Add the dataset, by number or name."""
    parser.add_argument("dataset", help="dataset number or name")


def add_trainer_argument(parser: ArgumentParser, default: str = DEFAULT_TRAINER) -> None:
    """Add the trainer's name."""
    parser.add_argument("--trainer", "-tr", default=default, help="trainer name (default: %(default)s)")


def add_plans_argument(parser: ArgumentParser) -> None:
    """Add the plans' name."""
    parser.add_argument("--plans", "-p", default=PLANS_NAME, help="plans name (default: %(default)s)")


def add_configuration_argument(parser: ArgumentParser) -> None:
    """Add the configuration of the plans, for commands that take it as an option."""
    parser.add_argument("--configuration", "-c", default=CONFIGURATION, help="default: %(default)s")


def add_device_argument(parser: ArgumentParser, purpose: str = "") -> None:
    """Add the device to compute on; `purpose` says for what, where a command rarely computes."""
    parser.add_argument(
        "--device", "-device", choices=["cuda", "cpu", "mps"], help=f"{purpose}default: cuda where there is a GPU"
    )
