"""`adnext_audit`: search a dataset, its folds and its runs for whatever would make results too good."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_configuration_argument, add_dataset_argument, add_plans_argument, run_folder
from adnext_plugin.errors import PathsError, SplitError
from adnext_plugin.files import write_json
from adnext_plugin.paths import dataset_folder_name, file_of_fold, preprocessed_dir

if TYPE_CHECKING:
    import pandas as pd

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
    weights: str | None
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
        metavar="FILE",
        help="also look for anybody of the dataset among those whom these weights have seen; with '{fold}' in the "
        "name, for those whom a fold holds out among those whom its own weights have seen",
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
    from adnext_plugin.trainers.fold_data import open_data

    data = open_data(preprocessed_dir() / request.dataset, request.plans, request.configuration)
    checks = quick_checks(data)
    if request.run is not None:
        checks += _checks_of_run(request.run, data)
    if request.weights is not None:
        checks += _checks_of_weights(request.weights, data)
    for check in checks:
        _print(check)
    write_json({"dataset": request.dataset, "checks": [asdict(check) for check in checks]}, request.output)
    print(f"All findings are in {request.output}")
    return 1 if any(check.leaks for check in checks) else 0


def quick_checks(data: "FoldData") -> "list[Check]":
    """The checks of a dataset and its folds; seconds, once fingerprints of its scans are stored."""
    from adnext_plugin.people import people_of
    from adnext_plugin.splits.audit import Check, check_files, check_ids, check_images
    from adnext_plugin.splits.folds import ensure_splits
    from adnext_plugin.splits.likeness import CACHE_FILE, cached_fingerprints, find_resemblance

    subjects, task = data.subjects, data.plan.task
    checks, splits = [], []
    try:
        splits = ensure_splits(data.dataset_folder, subjects, task)
    except SplitError as error:
        checks.append(Check(name="folds that fit the subjects", looked_at="the folds", leaks=(str(error),)))
    store = data.store(subjects["case_id"].tolist())
    fingerprints = cached_fingerprints(
        [data.images / f"{case}.b2nd" for case in store.cases],
        lambda index: store[index][0],
        data.plan.preprocessing.spacing_mm,
        data.dataset_folder / CACHE_FILE,
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
        raise SplitError(
            f"audit: {_in_short(leaks)}. If it is one person, give all their rows of subjects.csv one subject_id and "
            f"delete splits_final.json; if not, say why: --skip-audit REASON. All findings: adnext_audit {dataset}"
        )
    remarks = sum(len(check.remarks) for check in checks)
    more = f"; {remarks} remarks, see adnext_audit {dataset}" if remarks else ""
    return f"Audit: nobody on both sides of a fold ({'; '.join(check.looked_at for check in checks)}){more}"


def refuse_seen(check: "Check") -> str:
    """One line about weights that have seen nobody who is held out.

    Raises:
        SplitError: they have.
    """
    if check.leaks:
        raise SplitError(
            f"audit: {_in_short(check.leaks)}. Begin with weights that were trained without them, or say why it does "
            "no harm: --skip-audit REASON"
        )
    return f"Audit: {check.name}: {check.answer} ({check.looked_at})"


def _in_short(leaks: Sequence[str]) -> str:
    return leaks[0] + (f" (and {len(leaks) - 1} more)" if len(leaks) > 1 else "")


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


def check_weights(path: Path, held_out: "pd.DataFrame") -> "Check":
    """Look for held-out people among those whom weights to begin with have seen.

    Args:
        path: their checkpoint.
        held_out: rows of `subjects.csv`.
    """
    from adnext_plugin.training.weights import read_checkpoint

    return _check_corpus(held_out, read_checkpoint(path).get("adnext", {}), f"{path.parent.name}/{path.name}")


def _checks_of_weights(path: str, data: "FoldData") -> "list[Check]":
    from adnext_plugin.splits.folds import ensure_splits

    if file_of_fold(path, 0) == Path(path):
        return [check_weights(Path(path), data.subjects)]
    folds = range(len(ensure_splits(data.dataset_folder, data.subjects, data.plan.task)))
    return [check_weights(file_of_fold(path, fold), replace(data, fold=fold).held_out) for fold in folds]


def _checks_of_run(run: Path, data: "FoldData") -> "list[Check]":
    """The scales in a run's checkpoints, and whom each of its networks has seen, first weights included."""
    from adnext_plugin.records import from_json
    from adnext_plugin.settings import TrainerSettings
    from adnext_plugin.splits.audit import check_statistics
    from adnext_plugin.trainers.fold_scales import scales_of, stored_scales
    from adnext_plugin.training.weights import read_checkpoint

    stored, expected, checks = {}, {}, []
    for folder in sorted(run.glob("fold_[0-9]*")):
        if not (folder / "checkpoint_final.pth").is_file():
            continue
        block = read_checkpoint(folder / "checkpoint_final.pth")["adnext"]
        settings = from_json(TrainerSettings, block["settings"], f"{folder}, settings")
        of_fold = replace(data, fold=int(folder.name.removeprefix("fold_")))
        stored[folder.name] = stored_scales(block)
        expected[folder.name] = scales_of(of_fold, settings)
        checks.append(_check_corpus(of_fold.held_out, block, folder.name))
    return [check_statistics(stored, expected), *checks]


def _check_corpus(held_out: "pd.DataFrame", block: dict, network: str) -> "Check":
    from hashlib import sha256

    from adnext_plugin.splits.audit import check_corpus
    from adnext_plugin.training.corpus import digests, key_home, project_key

    key = project_key(key_home())
    corpus = block.get("pretraining_data")
    return check_corpus(held_out, corpus, lambda name: digests([name], key)[0], sha256(key).hexdigest(), network)


def _print(check: "Check") -> None:
    print(f"{check.name}: {check.answer}  ({check.looked_at})")
    for lines, mark in ((check.leaks, "!"), (check.remarks, "-")):
        for line in lines[:LINES_SHOWN]:
            print(f"  {mark} {line}")
        if len(lines) > LINES_SHOWN:
            print(f"  {mark} and {len(lines) - LINES_SHOWN} more")
