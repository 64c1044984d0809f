"""The options of `adnext_import` that say how cells of tables and headers of images are to be read."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adnext_plugin.importing.tables.cells import CellRules


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
        choices=("day-first", "month-first"),
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


def rules_of(arguments: Namespace) -> "CellRules":
    """How cells are to be read, as the arguments say.

    Raises:
        SettingsError: a replacement has no "=".
    """
    from adnext_plugin.importing.tables.cells import CellRules, parse_missing, parse_replacements

    return CellRules(
        missing=parse_missing(arguments.missing),
        date_order=arguments.date_format,
        replacements=parse_replacements(arguments.covariate_map),
    )
