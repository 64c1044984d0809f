"""A search of a dataset, its folds and its runs for whatever would make results too good."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.builtin.weights import PREFIX, name_of_file, weights_file
from adnext_plugin.errors import OtherDataError, PathsError, SplitError
from adnext_plugin.files import write_json
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.run_records import Corpus
from adnext_plugin.workflows.common import DatasetRequest, Fold, Tell

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.splits.audit import Check
    from adnext_plugin.trainers.fold_data import FoldData

FILE = "audit.json"  # of a preprocessed dataset


@dataclass(frozen=True, kw_only=True)
class Request(DatasetRequest):
    """Which dataset, and what else is searched.

    `trainer`: its run's checkpoints, too. `pretrained_weights`: a file whose network has perhaps seen anybody of the
    dataset, or with "{fold}" in its name, of those whom that fold holds out. `output`: JSON file of all findings, which
    names people; in the preprocessed dataset if None.
    """

    trainer: str | None = None
    pretrained_weights: str | None = None
    output: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was looked for and found, and the file that says all of it."""

    checks: "tuple[Check, ...]"
    file: Path

    @property
    def leaks(self) -> tuple[str, ...]:
        """One line for each finding that stands in a fold's way."""
        return tuple(line for check in self.checks for line in check.leaks)


def audit(request: Request) -> Result:
    """Search, and write down what was found.

    Raises:
        PathsError: there is no such dataset, run or file.
        WeightsError: a checkpoint cannot be read safely.
    """
    folder, run = request.dataset_folder, None
    if request.trainer:
        run = RunFolder.of(folder.name, request.trainer, request.plans, request.configuration)
        if not run.path.is_dir():
            raise PathsError(f"{run.path} does not exist; train first, or check -tr, -p and -c")

    from adnext_plugin.trainers.fold_data import open_data

    data = open_data(folder, request.plans, request.configuration)
    checks = quick_checks(data)
    if run is not None:
        checks += [_check_data(run, request), *_checks_of_run(run, data)]
    if request.pretrained_weights is not None:
        checks += _checks_of_weights(request.pretrained_weights, data)
    file = request.output or folder / FILE
    write_json({"dataset": folder.name, "checks": [asdict(check) for check in checks]}, file)
    return Result(checks=tuple(checks), file=file)


def _check_data(run: RunFolder, request: Request) -> "Check":
    """Whether the run was trained on what the dataset holds now."""
    from adnext_plugin.prepared_data import PreparedData, refuse_other_data
    from adnext_plugin.splits.audit import Check

    remarks: list[str] = []
    leaks: tuple[str, ...] = ()
    try:
        data = PreparedData.open(request.dataset_folder, request.plans, request.configuration)
        refuse_other_data(run.folds(), data, remarks.append)
    except (OtherDataError, SplitError) as error:
        leaks = (str(error),)
    return Check(
        name="other data than those trained on", looked_at="the run's data", leaks=leaks, remarks=tuple(remarks)
    )


def quick_checks(data: "FoldData") -> "list[Check]":
    """The checks of a dataset and its folds; seconds, once coarse copies of its scans are stored."""
    from adnext_plugin import prepared_data
    from adnext_plugin.people import people_of
    from adnext_plugin.prepared_data import digests_of_volumes
    from adnext_plugin.splits.audit import Check, check_files, check_ids, check_images
    from adnext_plugin.splits.folds import ensure_splits
    from adnext_plugin.splits.likeness import CACHE_FILE, cached_coarse_copies, find_resemblance

    subjects, task = data.subjects, data.plan.task
    assert task is not None  # `open_data` has filled it in
    checks: list[Check] = []
    splits: Sequence[dict[str, list[str]]] = []
    try:
        splits = ensure_splits(data.dataset_folder, subjects, task)
    except SplitError as error:
        checks.append(Check(name="folds that fit the subjects", looked_at="the folds", leaks=(str(error),)))
    store = data.store(subjects["case_id"].tolist())
    digests = digests_of_volumes(data.images, store.cases, data.dataset_folder / prepared_data.CACHE_FILE)
    copies = cached_coarse_copies(
        [digests[case] for case in store.cases],
        lambda index: store[index][0],
        data.plan.preprocessing.spacing_mm,
        data.dataset_folder / CACHE_FILE,
    )
    people = people_of(subjects["subject_id"])
    resemblance = find_resemblance(copies, subjects["subject_id"].map(people).tolist())
    return [
        *checks,
        check_ids(subjects, splits),
        check_files(subjects, splits),
        check_images(subjects, resemblance, splits),
    ]


def refuse_what_leaks(
    request: DatasetRequest,
    first_weights: Mapping[Path, Sequence[Fold]],
    tell: Tell,
    *,
    are_other_people: bool = False,
) -> None:
    """What is searched before a labelled task is trained.

    Args:
        request: the dataset.
        first_weights: files to begin with, and the folds that begin with each.
        tell: is told what was looked for in vain.
        are_other_people: the user says that ids which the weights have seen are those of different people.

    Raises:
        SplitError: a person or an image is on both sides of a fold, or held out and seen by the weights.
    """
    import pandas as pd

    from adnext_plugin.trainers.fold_data import open_data

    data = open_data(request.dataset_folder, request.plans, request.configuration)
    tell(refuse_leaks(quick_checks(data), data.dataset_folder.name))
    for path, folds in first_weights.items():
        held_out = pd.concat([replace(data, fold=fold).held_out for fold in folds])
        tell(refuse_seen(check_weights(path, held_out, are_other_people=are_other_people)))


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
            "no harm: --skip-audit REASON, or --other-people REASON where equal ids are those of different people"
        )
    return f"Audit: {check.name}: {check.answer} ({check.looked_at})"


def _in_short(leaks: Sequence[str]) -> str:
    return leaks[0] + (f" (and {len(leaks) - 1} more)" if len(leaks) > 1 else "")


def check_weights(path: Path, held_out: "pd.DataFrame", *, are_other_people: bool = False) -> "Check":
    """Look for held-out people among those whom weights to begin with have seen.

    Args:
        path: their checkpoint.
        held_out: rows of `subjects.csv`.
        are_other_people: compare images only.
    """
    from adnext_plugin.training.checkpoint_notes import find_notes
    from adnext_plugin.training.weights import read_checkpoint

    notes = find_notes(read_checkpoint(path), path)
    corpus = None if notes is None else notes.pretraining_data
    name = name_of_file(path)
    network = name if name.startswith(PREFIX) else f"{path.parent.name}/{name}"
    return _check_corpus(held_out, corpus, network, are_other_people=are_other_people)


def _checks_of_weights(path: str, data: "FoldData") -> "list[Check]":
    from adnext_plugin.cohort import Cohort

    if weights_file(path, 0) == weights_file(path, 1):
        return [check_weights(weights_file(path, 0), data.subjects)]
    folds = range(len(Cohort.open(data.dataset_folder).splits))
    return [check_weights(weights_file(path, fold), replace(data, fold=fold).held_out) for fold in folds]


def _checks_of_run(run: RunFolder, data: "FoldData") -> "list[Check]":
    """What a run has learned beside weights, and whom each of its networks has seen, first weights included."""
    from adnext_plugin.records import from_json
    from adnext_plugin.settings import TrainerSettings
    from adnext_plugin.splits.audit import check_statistics
    from adnext_plugin.trainers.fold_scales import arrays_of, scales_of, stored_arrays, stored_scales
    from adnext_plugin.training.checkpoint_notes import notes_of
    from adnext_plugin.training.weights import read_checkpoint

    stored: dict[str, dict[str, Any]] = {}
    expected: dict[str, dict[str, Any]] = {}
    checks = []
    for folder in run.folds():
        if not folder.name.isdigit() or not folder.checkpoint_final.is_file():
            continue
        notes = notes_of(read_checkpoint(folder.checkpoint_final), folder.checkpoint_final)
        settings = from_json(TrainerSettings, TrainerSettings.known_part(notes.settings), f"{folder.path}, settings")
        of_fold, name = replace(data, fold=int(folder.name)), folder.path.name
        stored[name] = {**stored_scales(notes), **stored_arrays(folder)}
        expected[name] = {**scales_of(of_fold, settings), **arrays_of(of_fold, settings)}
        are_other_people = settings.other_people is not None
        checks.append(_check_corpus(of_fold.held_out, notes.pretraining_data, name, are_other_people=are_other_people))
    return [check_statistics(stored, expected), *checks]


def _check_corpus(held_out: "pd.DataFrame", corpus: Corpus | None, network: str, *, are_other_people: bool) -> "Check":
    """Look for people in each list that a network brings, with the key it was made with: the project's, or ours."""
    from hashlib import sha256

    from adnext_plugin.builtin.weights import is_published, published_key
    from adnext_plugin.project_key import digests, key_home, project_key
    from adnext_plugin.splits.audit import check_corpus, together

    def check(one: Corpus | None) -> "Check":
        key = published_key() if one is not None and is_published(one.key_digest) else project_key(key_home())
        return check_corpus(
            held_out,
            one,
            lambda name: digests([name], key)[0],
            sha256(key).hexdigest(),
            network,
            are_other_people=are_other_people,
        )

    lists = [corpus] if corpus is None else [replace(corpus, published=()), *corpus.published]
    return together([check(one) for one in lists])
