"""What training writes down of a run beside its weights, as records: run.json and summary.json of a fold.

A file that says more, less or something else than it must is refused with one line.
"""

from collections.abc import Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from adnext_plugin.errors import FormatError
from adnext_plugin.files import read_json, write_json
from adnext_plugin.formats import Format
from adnext_plugin.records import from_json, record, to_json
from adnext_plugin.settings import Protocol, RunSettings, TrainerSettings

ALWAYS_SET = ("epochs", "augmentation", "seed")  # in the settings of every version
NNUNET_KEYS = ("metric_per_case", "mean", "foreground_mean")  # of its own summary.json, beside which ours may stand

RUN = Format(
    name="adnext_run",
    version=1,
    known_by="settings",
    words="what an AD-NeXt trainer writes of a run",
    remedy="train the fold again with adnext_train",
)
SUMMARY = Format(
    name="adnext_fold_summary",
    version=1,
    known_by="protocol",
    words="a summary of an AD-NeXt trainer that predicts",
    remedy="train the fold with adnext_train",
)
PRETRAINING_SUMMARY = Format(
    name="adnext_pretraining_summary",
    version=1,
    known_by="cases",
    words="a summary of a pre-training run",
    remedy="pre-train with adnext_pretrain",
)


@record
class Provenance:
    """What software and machine trained."""

    adnext_plugin: str
    nnunetv2: str
    torch: str
    monai: str
    numpy: str
    python: str
    device: str  # that trained, and its name; of several processes or one after the other, all of them
    commit: str

    @classmethod
    def taken_from(cls, content: dict[str, Any], where: str) -> "Provenance":
        """Read it from among other keys of a JSON object, and take it out of there."""
        names = [one.name for one in fields(cls)]
        return from_json(cls, {name: content.pop(name) for name in names if name in content}, where)


@record
class Corpus:
    """Whom a network has seen: keyed digests of people and images, which name nobody without the project's key."""

    datasets: tuple[str, ...]
    complete: bool = True  # False where those whom its first weights had seen are not known
    subject_count: int
    scan_count: int
    key_digest: str  # tells whether two lists were made with one key
    subjects: tuple[str, ...]  # ids as they were written
    people: tuple[str, ...] = ()  # names of people; earlier versions wrote none
    images: tuple[str, ...]
    # whom built-in weights had seen that it began with, directly or by detour: made with the published key
    published: tuple["Corpus", ...] = ()

    @model_serializer(mode="wrap")
    def _without_empty_lists(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As earlier versions wrote it where no built-in weights are involved, so that they can read it."""
        content = handler(self)
        if not content["published"]:
            del content["published"]
        return content


@record
class RunInfo:
    """`run.json`: settings as they were resolved, and what trained with them."""

    settings: dict[str, Any]
    provenance: Provenance


@record
class FoldSummary:
    """`summary.json` of a labelled task: how a fold was trained and judged.

    `metrics` are of scans, by part (`val` is held out) and name. `warning` is what all results are stamped with.
    """

    trainer: str
    protocol: Protocol
    fold: int | str
    epochs: int
    best_epoch: int | None  # None where there was nothing to choose it on
    evaluated_checkpoint: str  # name of the file with the weights that predicted
    seed: int
    metrics: dict[str, Mapping[str, int | float | None]] = field(default_factory=dict)
    warning: str | None = None
    permute_labels: int | None = None  # seed of the deal of all labels


@record
class PretrainingSummary:
    """`summary.json` of pre-training; `report` is what the objective says of the held-out scans, by its own names."""

    trainer: str
    fold: int | str
    epochs: int
    seed: int
    cases: int  # held out
    report: dict[str, Any] = field(default_factory=dict)


def write_run_info(info: RunInfo, path: Path) -> None:
    """Write `run.json`."""
    write_json(RUN.stamped({"settings": info.settings, **to_json(info.provenance)}), path)


def read_run_info(path: Path) -> RunInfo:
    """Read `run.json`.

    Raises:
        PathsError: there is none, or it is damaged.
        FormatError: it is another program's, or a later version's.
        SettingsError: a key is unknown or missing, or a setting has a value that none can have.
    """
    content = RUN.content_of(read_json(path), str(path))
    provenance = Provenance.taken_from(content, str(path))
    info = from_json(RunInfo, {**content, "provenance": provenance}, str(path))
    _check_settings(info.settings, f"{path}, settings")
    return info


def _check_settings(settings: dict[str, Any], where: str) -> None:
    """Refuse values that are none of the settings that all trainers have; trainers may have further ones."""
    kind = TrainerSettings if "protocol" in settings else RunSettings
    missing = [name for name in ALWAYS_SET if name not in settings]
    if missing:
        raise FormatError(f"{where}: {missing[0]!r} is missing; {RUN.remedy}")
    from_json(kind, {one.name: settings[one.name] for one in fields(kind) if one.name in settings}, where)


def write_summary(summary: FoldSummary | PretrainingSummary, path: Path) -> None:
    """Write `summary.json`; what there is nothing to say of is left out."""
    content = {one.name: getattr(summary, one.name) for one in fields(summary)}
    if isinstance(summary, PretrainingSummary):
        report = content.pop("report")
        write_json(PRETRAINING_SUMMARY.stamped({**content, **report}), path)
        return
    unsaid = [name for name in ("warning", "permute_labels") if content[name] is None]
    write_json(SUMMARY.stamped({name: value for name, value in content.items() if name not in unsaid}), path)


def read_summary(path: Path) -> FoldSummary | PretrainingSummary:
    """Read `summary.json` of either kind.

    Raises:
        PathsError: there is none, or it is damaged.
        FormatError: it is another program's, or a later version's.
        SettingsError: a key is unknown or missing.
    """
    stored = read_json(path)
    if not PRETRAINING_SUMMARY.is_of(stored) or SUMMARY.is_of(stored):
        content = SUMMARY.content_of(stored, str(path))
        return from_json(FoldSummary, _without_nnunets(content), str(path))
    content = _without_nnunets(PRETRAINING_SUMMARY.content_of(stored, str(path)))
    known = {one.name for one in fields(PretrainingSummary)} - {"report"}
    report = {name: value for name, value in content.items() if name not in known}
    said = {name: value for name, value in content.items() if name in known}
    return from_json(PretrainingSummary, {**said, "report": report}, str(path))


def read_fold_summary(path: Path) -> FoldSummary:
    """Read `summary.json` of a labelled task, as `read_summary`.

    Raises:
        FormatError: it is of pre-training, too.
    """
    summary = read_summary(path)
    if isinstance(summary, PretrainingSummary):
        raise FormatError(f"{path} is not of a trainer that predicts (a pre-trained encoder is not a model yet)")
    return summary


def _without_nnunets(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in NNUNET_KEYS}
