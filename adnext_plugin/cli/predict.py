"""`adnext_predict`: a trained model on new scans, with warnings where they are unlike those it was trained on."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_device_argument
from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import AdnextError, PathsError, SettingsError
from adnext_plugin.partial_files import partial_folder
from adnext_plugin.paths import preprocessed_dir, results_dir
from adnext_plugin.workflows.common import choose_device

if TYPE_CHECKING:
    from adnext_plugin.prediction.model import Model

BUNDLES = "bundles"  # folder of installed bundles in nnUNet_results
COLUMNS = ("file", "subject", "session", "age", "sex", "site")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line; `folds` None: all there are."""

    input: str
    output: Path
    model: Path
    folds: tuple[str, ...] | None
    device: str | None
    processes: int
    table_options: dict
    bids_suffix: str


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_predict", "Predict scans with all networks of a trained model together.")
    parser.add_argument(
        "--input",
        "-i",
        required=True,
        help="a NIfTI file; a folder of them, searched with the folders in it; a CSV or TSV table; a BIDS tree; a raw "
        "or preprocessed dataset, the latter also by its number",
    )
    parser.add_argument("--output", "-o", type=Path, required=True, help="folder for predictions.csv and .json")
    parser.add_argument(
        "--model",
        "-m",
        type=Path,
        required=True,
        help="folder of a run, TRAINER__PLANS__CONFIGURATION; or folder or name of an installed bundle",
    )
    parser.add_argument("--folds", "-f", nargs="+", help="networks to use (default: all there are)")
    add_device_argument(parser)
    parser.add_argument("--processes", "-np", type=int, default=min(4, usable_cpus()), help="default: %(default)s")
    source = parser.add_argument_group("tables and BIDS trees, as in adnext_import")
    source.add_argument("--images", type=Path, help="folder that the table's paths start from (default: the table's)")
    source.add_argument("--image-pattern", help="path of a row's image, e.g. 'images/{ID}.nii.gz'")
    for role in COLUMNS:
        source.add_argument(
            f"--{role}-column", help=f"the table's column of {role}; usual names are found by themselves"
        )
    source.add_argument("--suffix", default="T1w", help="BIDS suffix of the images (default: T1w)")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    request = _request(build_parser().parse_args(argv))

    from adnext_plugin.prediction.ensemble import Ensemble
    from adnext_plugin.prediction.inputs import read_inputs
    from adnext_plugin.prediction.results import write_results

    device = choose_device(request.device)
    model = _read_model(request)
    ensemble = Ensemble(model, device)
    inputs = read_inputs(request.input, model.description, ensemble.columns, request.table_options, request.bids_suffix)
    if inputs.left_out:
        print(f"{len(inputs.left_out)} images or rows of {request.input} were left out: {inputs.left_out[0]}, ...")
    _print_model(model, ensemble.not_checked, device)
    request.output.mkdir(parents=True, exist_ok=True)
    found = {}
    with partial_folder(request.output) as work:
        for scan, outcome in ensemble.predict(inputs, Path(work) / "volumes", request.processes):
            found[scan] = outcome
    outcomes = [(scan, found[scan]) for scan in inputs.scans]
    write_results(outcomes, model.description, ensemble.not_checked, request.output)
    failed = [(scan, outcome) for scan, outcome in outcomes if isinstance(outcome, AdnextError)]
    for scan, error in failed:
        print(f"error: {scan.case_id}: {' '.join(str(error).split())}", file=sys.stderr)
    warned = sum(bool(outcome.warnings) for _, outcome in outcomes if not isinstance(outcome, AdnextError))
    print(f"{len(outcomes) - len(failed)} scans predicted, {warned} of them with warnings; {len(failed)} failed")
    print(f"Predictions are in {request.output / 'predictions.csv'} and predictions.json")
    return 2 if failed else 0


def _request(arguments: Namespace) -> Request:
    if arguments.output.exists() and not arguments.output.is_dir():
        raise PathsError(f"-o {arguments.output} is a file; give a folder")
    return Request(
        input=arguments.input,
        output=arguments.output,
        model=arguments.model,
        folds=tuple(arguments.folds) if arguments.folds else None,
        device=arguments.device,
        processes=max(1, arguments.processes),
        table_options={
            "images": arguments.images,
            "image_pattern": arguments.image_pattern,
            "columns": {role: getattr(arguments, f"{role}_column") for role in COLUMNS},
        },
        bids_suffix=arguments.suffix,
    )


def _read_model(request: Request) -> "Model":
    from adnext_plugin.prediction.bundle import is_bundle, read_bundle
    from adnext_plugin.prediction.from_run import read_run
    from adnext_plugin.run_folder import RunFolder

    folder = request.model
    if not folder.exists() and len(folder.parts) == 1 and (results_dir() / BUNDLES / folder).is_dir():
        folder = results_dir() / BUNDLES / folder
    if folder.is_file():
        raise PathsError(f"-m {folder} is a file; install a bundle with adnext_install first, or give a run's folder")
    if not is_bundle(folder):
        return _with_ranges(read_run(RunFolder(folder.resolve()), request.folds))
    model = read_bundle(folder)
    return model if request.folds is None else _only(model, request.folds)


def _only(model: "Model", folds: tuple[str, ...]) -> "Model":
    from dataclasses import replace

    known = [fold.name for fold in model.description.folds]
    unknown = [name for name in folds if name not in known]
    if unknown:
        raise SettingsError(f"--folds: the model has no fold {unknown[0]}; it has {', '.join(known)}")
    chosen = [known.index(name) for name in dict.fromkeys(folds)]
    description = replace(model.description, folds=tuple(model.description.folds[index] for index in chosen))
    return replace(model, description=description, folds=tuple(model.folds[index] for index in chosen))


def _with_ranges(model: "Model") -> "Model":
    """A run has no ranges of its own; they are measured where its preprocessed dataset still is."""
    from adnext_plugin.prediction.training_cases import with_ranges

    try:
        return with_ranges(model, preprocessed_dir() / model.description.dataset)
    except AdnextError:
        return model


def _print_model(model: "Model", not_checked: Sequence[str], device: str) -> None:
    description = model.description
    task = description.plan.task
    print(
        f"{len(description.folds)} networks of {description.trainer}, trained on {description.dataset}: "
        f"{', '.join(task.classes) or task.target}; on {device}"
    )
    for stamp in description.stamps:
        print(stamp)
    uncertain = [fold.name for fold in description.folds if fold.temperature_at_limit]
    if uncertain:
        print(f"Calibration is rough: few or perfectly separated people to calibrate on (fold {', '.join(uncertain)})")
    if not_checked:
        print(
            f"Not compared with the training scans: {', '.join(not_checked)} (adnext_export measures them where the "
            "preprocessed dataset is)"
        )
