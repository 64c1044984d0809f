"""The options that say which images of a source are meant, of commands that import scans or predict them."""

from argparse import ArgumentParser, _ArgumentGroup


def add_channel_argument(options: ArgumentParser | _ArgumentGroup, help: str, pattern: str = "PATTERN") -> None:
    """Add where the images of each channel are."""
    options.add_argument("--channel", nargs="+", action="extend", default=[], metavar=f"NAME={pattern}", help=help)


def add_bids_arguments(options: ArgumentParser | _ArgumentGroup) -> None:
    """Add which images of a BIDS tree are meant."""
    options.add_argument("--suffix", default="T1w", help="BIDS suffix of the images (default: T1w)")
    options.add_argument(
        "--entity", nargs="+", default=[], metavar="KEY=VALUE", help="BIDS entities, e.g. acq=mprage space=none"
    )
