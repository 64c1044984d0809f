"""`adnext_networks`: every network that can be named in a plan, and what it costs."""

import csv
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.csv_files import written
from adnext_plugin.workflows.networks import Request, compare_with_table4, count_costs

if TYPE_CHECKING:
    from adnext_plugin.networks.costs import NetworkCosts
    from adnext_plugin.networks.table4 import Comparison
    from adnext_plugin.networks.training_costs import TrainingCosts

PARAMETERS, MULTIPLY_ADDS, PEAK, STEP = "parameters", "multiply-adds", "peak memory (GiB)", "step (s)"
FORMATS = ("table", "csv", "markdown")
DEVICES = ("auto", "cpu", "cuda")
TRANSPOSED_NOTE = "In the paper's row of S, the two numbers stand in each other's place: 3.72 M and 3.63 G are meant."


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_networks", "List networks with their parameters and multiply-adds for one scan.")
    parser.add_argument(
        "--input-size", type=int, nargs=3, default=(128, 128, 128), metavar=("Z", "Y", "X"), help="default: 128 128 128"
    )
    parser.add_argument("--channels", type=int, default=1, help="modalities of a scan (default: %(default)s)")
    parser.add_argument("--outputs", type=int, default=2, help="classes (default: %(default)s)")
    parser.add_argument("--names", nargs="+", default=(), metavar="NAME", help="default: every registered network")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--measure", action="store_true", help="also train for four steps: peak memory, and median time of three"
    )
    what.add_argument("--table4", action="store_true", help="the AD-NeXt paper's Table 4 beside our counts, at 128³")
    parser.add_argument("--batch-size", type=int, default=1, help="scans per measured step (default: %(default)s)")
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="to measure on (default: a GPU if there is one)"
    )
    parser.add_argument("--format", choices=FORMATS, default="table", help="default: %(default)s; csv is unrounded")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    request = Request(
        input_size_voxels=tuple(arguments.input_size),
        in_channels=arguments.channels,
        num_outputs=arguments.outputs,
        names=tuple(arguments.names),
        batch_size=arguments.batch_size,
        measure=arguments.measure,
        device=arguments.device,
    )
    if arguments.table4:
        _print_rows([_table4_row(row) for row in compare_with_table4(request.names)], arguments.format)
        print(TRANSPOSED_NOTE, file=sys.stderr if arguments.format == "csv" else sys.stdout)
        return 0
    costs = count_costs(request, _write_beside_progress).networks
    _print_rows([_row(scan, step if request.measure else None) for scan, step in costs], arguments.format)
    return 0


def _write_beside_progress(text: str) -> None:
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)


def _row(scan: "NetworkCosts", step: "TrainingCosts | None") -> dict:
    """Of one network, unrounded."""
    row = {
        "network": scan.name,
        PARAMETERS: scan.parameters,
        MULTIPLY_ADDS: scan.multiply_adds,
        "batch norm": None if scan.has_batch_norm is None else {True: "yes", False: "no"}[scan.has_batch_norm],
    }
    if step is None:
        return row
    return {**row, PEAK: step.peak_bytes and step.peak_bytes / 2**30, STEP: step.step_s}


def _table4_row(comparison: "Comparison") -> dict:
    paper = comparison.paper
    return {
        "network": paper.label,
        "parameters, paper (M)": paper.parameters_m,
        "parameters, ours (M)": comparison.parameters_m,
        "multiply-adds, paper (G)": paper.multiply_adds_g,
        "multiply-adds, ours (G)": comparison.multiply_adds_g,
        "agree": "yes" if comparison.agrees else "NO",
    }


def _print_rows(rows: list[dict], style: str) -> None:
    header = list(rows[0])
    if style == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        lines = [header, *[row.values() for row in rows]]
        writer.writerows([[written(cell) if isinstance(cell, str) else cell for cell in line] for line in lines])
        return
    cells = [header, *[[_for_reading(row[column]) for column in header] for row in rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    first, *others = widths
    lines = [
        [line[0].ljust(first), *[cell.rjust(width) for cell, width in zip(line[1:], others, strict=True)]]
        for line in cells
    ]
    if style == "markdown":
        lines.insert(1, ["-" * width for width in widths])
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))
    else:
        print("\n".join("  ".join(line) for line in lines))


def _for_reading(value: str | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else value
