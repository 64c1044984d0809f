"""`adnext_audit`: search a dataset, its folds and its runs for whatever would make results too good."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_configuration_argument, add_dataset_argument, add_plans_argument, run_folder
from adnext_plugin.errors import PathsError, SplitError
from adnext_plugin.paths import (
    dataset_folder_name,
    preprocessed_dir,
    results_dir,
    write_json,
)

if TYPE_CHECKING:
    from adnext_plugin.splits.audit import Check
    from adnext_plugin.trainers.fold_data import FoldData

LINES_SHOWN = 10  # of each kind in a terminal; the file has all


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line; `run` is a trained run's folder."""

    dataset: str
    plans: str
    configuration: str
    run: Path | None
    weights: Path | None
    output: Path


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser(
        "adnext_audit", "Look for people, images and statistics on both sides of a fold. Exit code 1 if there are any."
    )
    add_dataset_argument(parser)
    parser.add_argument("--trainer", "-tr", help="also audit the checkpoints of this trainer's run")
    add_plans_argument(parser)
    add_configuration_argument(parser)
    parser.add_argument(
        "--pretrained-weights",
        "-pretrained_weights",
        type=Path,
        help="checkpoint whose pre-training data to search; by default the one the run began with",
    )
    parser.add_argument(
        "--output",
        "-o",
        type=Path,
        metavar="FILE",
        help="JSON file of all findings, which names people (default: audit.json in the preprocessed dataset)",
    )
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    request = _request(build_parser().parse_args(argv))
    dataset_folder = preprocessed_dir() / request.dataset
    checks = quick_checks(dataset_folder, request.plans, request.configuration)
    weights = request.weights
    if request.run is not None:
        from adnext_plugin.trainers.fold_data import open_data

        found, began_with = _checks_of_run(request.run, open_data(dataset_folder, request.plans, request.configuration))
        checks.append(found)
        weights = weights or began_with
    if weights is not None:
        checks.append(_check_weights(weights, dataset_folder))
    for check in checks:
        _print(check)
    write_json({"dataset": request.dataset, "checks": [asdict(check) for check in checks]}, request.output)
    print(f"All findings are in {request.output}")
    return 1 if any(check.leaks for check in checks) else 0


def quick_checks(dataset_folder: Path, plans: str, configuration: str) -> "list[Check]":
    """The checks of a dataset and its folds; seconds, once fingerprints of its scans are stored."""
    from adnext_plugin.splits.audit import Check, check_files, check_ids, check_images
    from adnext_plugin.splits.fingerprints import CACHE_FILE, cached_fingerprints, find_resemblance
    from adnext_plugin.splits.folds import ensure_splits
    from adnext_plugin.splits.identities import people_of
    from adnext_plugin.trainers.fold_data import open_data

    data = open_data(dataset_folder, plans, configuration)
    subjects, task = data.subjects, data.plan.task
    checks, splits = [], []
    try:
        splits = ensure_splits(dataset_folder, subjects, task)
    except SplitError as error:
        checks.append(Check(name="folds that fit the subjects", looked_at="the folds", leaks=(str(error),)))
    store = data.store(subjects["case_id"].tolist())
    fingerprints = cached_fingerprints(
        [data.images / f"{case}.b2nd" for case in store.cases],
        lambda index: store[index][0],
        data.plan.preprocessing.spacing_mm,
        dataset_folder / CACHE_FILE,
    )
    people = people_of(subjects["subject_id"])
    resemblance = find_resemblance(fingerprints, subjects["subject_id"].map(people).tolist())
    return [
        *checks,
        check_ids(subjects, splits),
        check_files(subjects, splits),
        check_images(subjects, resemblance, splits),
    ]


def refuse_leaks(checks: "Sequence[Check]", dataset: str) -> str:
    """One line about checks without findings.

    Raises:
        SplitError: there are findings.
    """
    leaks = [line for check in checks for line in check.leaks]
    if leaks:
        others = f" (and {len(leaks) - 1} more)" if len(leaks) > 1 else ""
        raise SplitError(
            f"audit: {leaks[0]}{others}. If it is one person, give all their rows of subjects.csv one subject_id and "
            f"delete splits_final.json; if not, say why: --skip-audit REASON. All findings: adnext_audit {dataset}"
        )
    remarks = sum(len(check.remarks) for check in checks)
    more = f"; {remarks} remarks, see adnext_audit {dataset}" if remarks else ""
    return f"Audit: nobody on both sides of a fold ({'; '.join(check.looked_at for check in checks)}){more}"


def _request(arguments: Namespace) -> Request:
    dataset = dataset_folder_name(arguments.dataset, [preprocessed_dir()])
    run = None
    if arguments.trainer:
        run = run_folder(dataset, arguments)
        if not run.is_dir():
            raise PathsError(f"{run} does not exist; train first, or check -tr, -p and -c")
    return Request(
        dataset=dataset,
        plans=arguments.plans,
        configuration=arguments.configuration,
        run=run,
        weights=arguments.pretrained_weights,
        output=arguments.output or preprocessed_dir() / dataset / "audit.json",
    )


def _checks_of_run(run: Path, data: "FoldData") -> "tuple[Check, Path | None]":
    """The scales in a run's checkpoints, and the weights that its folds began with."""
    from adnext_plugin.records import TrainerSettings, from_json
    from adnext_plugin.splits.audit import check_statistics
    from adnext_plugin.trainers.fold_scales import scales_of, stored_scales
    from adnext_plugin.training.weights import read_checkpoint

    stored, expected, weights = {}, {}, None
    for folder in sorted(run.glob("fold_[0-9]*")):
        if not (folder / "checkpoint_final.pth").is_file():
            continue
        block = read_checkpoint(folder / "checkpoint_final.pth")["adnext"]
        settings = from_json(TrainerSettings, block["settings"], f"{folder}, settings")
        weights = weights or settings.pretrained_weights
        stored[folder.name] = stored_scales(block)
        fold = int(folder.name.removeprefix("fold_"))
        expected[folder.name] = scales_of(replace(data, fold=fold), settings)
    return check_statistics(stored, expected), Path(weights) if weights else None


def _check_weights(path: Path, dataset_folder: Path) -> "Check":
    from hashlib import sha256

    from adnext_plugin.pretraining.corpus import digests, project_key
    from adnext_plugin.splits.audit import Check, check_corpus
    from adnext_plugin.subjects import read_dataset
    from adnext_plugin.training.weights import read_checkpoint

    if not path.is_file():
        return Check(name="a person of the pre-training data", looked_at=f"nothing: {path} is gone")
    key = project_key(results_dir())
    corpus = read_checkpoint(path).get("adnext", {}).get("pretraining_data")
    _, subjects = read_dataset(dataset_folder)
    return check_corpus(
        subjects, corpus, lambda name: digests([name], key)[0], sha256(key).hexdigest(), weights=path.name
    )


def _print(check: "Check") -> None:
    print(f"{check.name}: {'FOUND' if check.leaks else 'none'}  ({check.looked_at})")
    for lines, mark in ((check.leaks, "!"), (check.remarks, "-")):
        for line in lines[:LINES_SHOWN]:
            print(f"  {mark} {line}")
        if len(lines) > LINES_SHOWN:
            print(f"  {mark} and {len(lines) - LINES_SHOWN} more")
