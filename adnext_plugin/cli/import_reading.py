"""The options of `adnext_import` that say how cells of tables and headers of images are to be read."""

from argparse import ArgumentParser
from typing import get_args

from adnext_plugin.choices import DateOrder


def add_reading_options(parser: ArgumentParser) -> None:
    """Add the options."""
    reading = parser.add_argument_group("cells and headers")
    reading.add_argument(
        "--missing",
        nargs="+",
        action="extend",
        default=[],
        metavar="[COLUMN=]CELL",
        help="cells that mean 'not known', of all columns or of one, e.g. -9 age=999",
    )
    reading.add_argument(
        "--date-format",
        choices=get_args(DateOrder),
        help="how 5/6/2010 is to be read where no date of its column tells",
    )
    reading.add_argument(
        "--covariate-map",
        nargs="+",
        action="append",
        default=[],
        metavar=("COLUMN", "CELL=VALUE"),
        help="what cells of a column stand for, e.g. sex w=F D=; may be repeated",
    )
    reading.add_argument(
        "--accept",
        nargs="+",
        action="extend",
        default=[],
        metavar="KIND",
        help="doubts about headers that you have looked into: size, orientation, pixdim",
    )
