"""`adnext_export`: a trained model as one file to share, without anything of any one person in it."""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_device_argument
from adnext_plugin.errors import PathsError, SettingsError
from adnext_plugin.paths import preprocessed_dir
from adnext_plugin.workflows.common import choose_device


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line."""

    run: Path
    output: Path
    with_ranges: bool
    device: str | None


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_export", "Write a trained model as one file: tensors and JSON, no code, no person.")
    parser.add_argument("run", type=Path, help="folder of a cross-validated run, TRAINER__PLANS__CONFIGURATION")
    parser.add_argument("--output", "-o", type=Path, required=True, help="the file, e.g. model.zip")
    parser.add_argument(
        "--without-ranges",
        action="store_true",
        help="leave out what the training scans look like, for which their preprocessed dataset is needed",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file")
    add_device_argument(parser)
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    if arguments.output.suffix != ".zip":
        raise SettingsError(f"-o {arguments.output}: a bundle's name ends in .zip")
    if arguments.output.exists() and not arguments.overwrite:
        raise PathsError(f"{arguments.output} exists; choose another name, or give --overwrite")
    request = Request(
        run=arguments.run.resolve(),
        output=arguments.output,
        with_ranges=not arguments.without_ranges,
        device=arguments.device,
    )

    from adnext_plugin.images import file_sha256
    from adnext_plugin.prediction.bundle import write_bundle
    from adnext_plugin.prediction.from_run import read_run
    from adnext_plugin.prediction.training_cases import with_features, with_ranges
    from adnext_plugin.run_folder import RunFolder

    model = read_run(RunFolder(request.run))
    if request.with_ranges:
        dataset = preprocessed_dir() / model.description.dataset
        model = with_features(with_ranges(model, dataset), dataset, choose_device(request.device))
    write_bundle(model, request.output)
    size_mib = request.output.stat().st_size / 2**20
    print(f"{len(model.folds)} networks are in {request.output}, {size_mib:.1f} MiB")
    print(f"SHA-256 {file_sha256(request.output)}")
    return 0
