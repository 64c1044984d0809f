"""Records that stages hand each other: frozen, keyword-only, checked when made, read from JSON strictly."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, dataclass_transform

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass

from adnext_plugin.errors import SettingsError, nearest_names

RecordType = TypeVar("RecordType")
Protocol = Literal["honest", "paper"]
AUDIT_SKIPPED = "AUDIT SKIPPED"  # and the user's reason
OPTIMISTIC = "OPTIMISTIC: under the paper's protocol the epoch was chosen on the very subjects it is scored on"


@dataclass_transform(frozen_default=True, kw_only_default=True)
def record(cls: type[RecordType]) -> type[RecordType]:
    """Make a class a frozen, type-checked record that refuses unknown fields."""
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return pydantic_dataclass(frozen=True, kw_only=True, config=config)(cls)


@record
class Task:
    """What is to be learned: the `adnext` block of `dataset.json`.

    A regression has a target but no classes; unlabelled data have neither.
    """

    name: str
    kind: Literal["classification", "regression", "unlabelled"] = "classification"
    target: str | None = None  # the column of subjects.csv that holds the answer
    derived_from: tuple[str, ...] = ()  # columns that give the answer away, of no use as a baseline
    classes: tuple[str, ...] = ()  # class k is output k of the network; the last of two is the "positive" one

    def __post_init__(self) -> None:
        if self.kind == "unlabelled":
            return
        if self.target is None:
            raise SettingsError(f"task {self.name!r} names no target column")
        if self.kind == "regression":
            if self.classes:
                raise SettingsError(f"task {self.name!r} is a regression and cannot have classes")
            return
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise SettingsError(f"a task needs at least two different classes, got {list(self.classes)}")

    @property
    def num_outputs(self) -> int:
        """Length of the network's output vector; 0 for unlabelled data."""
        return 1 if self.kind == "regression" else len(self.classes)


def task_of(dataset_json: Mapping[str, Any], where: str) -> Task:
    """The task in the content of a `dataset.json`.

    Raises:
        SettingsError: it has none, or a damaged one.
    """
    if "adnext" not in dataset_json:
        raise SettingsError(
            f"{where} has no 'adnext' block that says what to classify; import the dataset with adnext_import"
        )
    return from_json(Task, dataset_json["adnext"], f"{where}, adnext")


@record
class PreprocessingSettings:
    """How a scan becomes the network's input. Axis order z, y, x."""

    spacing_mm: tuple[float, float, float] = (1.75, 1.75, 1.75)
    input_size_voxels: tuple[int, int, int] = (128, 128, 128)
    fit: Literal["resize", "pad_crop"] = "pad_crop"  # stretch the foreground box to the cube, or keep true size
    interpolation: Literal["linear", "cubic"] = "linear"  # cubic is more faithful to the scan, linear never overshoots
    clip_percentiles: tuple[float, float] | None = (0.5, 99.5)  # of the foreground; None leaves intensities alone
    # of scans with a skull; those without are left alone
    brain_extraction: Literal["none", "deepbet", "hdbet", "mask_files"] = "deepbet"
    brain_mask_files: str | None = None  # folder, or pattern with {case_id}, {subject_id}, {session_id}
    hdbet_folds: int = 5  # how many of HD-BET's five networks are averaged
    hdbet_mirroring: bool = True  # average each over the eight mirrorings of the scan
    bias_correction: Literal["none", "n4"] = "none"
    n4_shrink_factor: int = 4
    n4_iterations: tuple[int, ...] = (50, 50, 50, 50)  # at most, per level of the field's control points
    alignment: Literal["none", "rigid", "affine"] = "none"  # to MNI152

    def __post_init__(self) -> None:
        if min(self.spacing_mm) <= 0:
            raise SettingsError(f"spacing_mm must be positive, got {list(self.spacing_mm)}")
        if min(self.input_size_voxels) < 1:
            raise SettingsError(f"input_size_voxels must be at least 1, got {list(self.input_size_voxels)}")
        if self.clip_percentiles is not None:
            low, high = self.clip_percentiles
            if not 0 <= low < high <= 100:
                raise SettingsError(f"clip_percentiles must rise within 0 to 100, got {[low, high]}")
        if (self.brain_extraction == "mask_files") != (self.brain_mask_files is not None):
            raise SettingsError("brain_extraction mask_files and brain_mask_files (--brain-masks) need each other")
        if not 1 <= self.hdbet_folds <= 5:
            raise SettingsError(f"hdbet_folds must be 1 to 5, got {self.hdbet_folds}")
        if self.n4_shrink_factor < 1 or not self.n4_iterations or min(self.n4_iterations) < 1:
            raise SettingsError(
                "n4_shrink_factor and all n4_iterations must be at least 1, "
                f"got {self.n4_shrink_factor} and {list(self.n4_iterations)}"
            )


@record
class NetworkSettings:
    """Which network to build; a missing name leaves the choice to the trainer."""

    name: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@record
class RunSettings:
    """What every training has. Defaults: fine-tuning in the AD-NeXt paper, Table 5."""

    epochs: int = 150
    batch_size: int = 4
    learning_rate: float = 1e-5  # absolute, at the peak of the schedule
    min_learning_rate: float = 0.0  # where a cosine ends
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)  # of Adam and AdamW
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    momentum: float = 0.0  # of SGD
    schedule: Literal["cosine", "constant", "poly"] = "cosine"  # poly: nnU-Net's, with exponent 0.9
    warmup_epochs: int = 0
    patience_epochs: int | None = None  # stop when as many epochs in a row were no better than the best
    augmentation: str = "paper"
    pretrained_weights: str | None = None  # checkpoint whose encoder to start from; {fold} stands for the fold
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.min_learning_rate <= self.learning_rate or self.learning_rate <= 0:
            raise SettingsError(
                f"learning_rate must be positive and not below min_learning_rate ({self.min_learning_rate}), "
                f"got {self.learning_rate}"
            )
        if not 0 <= self.warmup_epochs < self.epochs:
            raise SettingsError(f"warmup_epochs must be below epochs ({self.epochs}), got {self.warmup_epochs}")
        if not 0 <= self.momentum < 1:
            raise SettingsError(f"momentum must be in [0, 1), got {self.momentum}")
        if self.patience_epochs is not None and self.patience_epochs < 1:
            raise SettingsError(f"patience_epochs must be at least 1, got {self.patience_epochs}")


@record
class TrainerSettings(RunSettings):
    """Numbers a trainer of a labelled task is allowed to vary."""

    # The paper's code weighs classes by their counts, which favours the larger class; see docs/decisions.md
    class_weights: Literal["inverse_frequency", "none", "counts"] = "inverse_frequency"
    # honest: the epoch is chosen on `selection`. paper: on the held-out fold, as published, stamped OPTIMISTIC
    protocol: Protocol = "honest"
    evaluate_with: Literal["best", "final"] = "best"  # whose weights predict the held-out fold
    # share of each class's training subjects that is used, for learning curves; a smaller share is part of a larger one
    train_fraction: float = 1.0
    # columns of subjects.csv, numbers or sex, that the head sees besides the image's features
    covariates: tuple[str, ...] = ()
    # (Z, Y, X) cut from the stored volume, at a random place to train on and from the centre to predict
    crop_voxels: tuple[int, int, int] | None = None
    # rate of a layer over that of the layer above it, for what starts from weights learned elsewhere; with 0 only the
    # head learns
    layer_decay: float = 1.0
    # before scoring an epoch, average the statistics of batch norms over the training cases
    precise_batch_norm: bool = False
    permute_labels: int | None = None  # seed of a deal of all labels among all subjects, which leaves nothing to learn
    skip_audit: str | None = None  # why people or images on both sides of a fold were not looked for
    # also predict the held-out fold after every epoch, to show by how much the paper's protocol would overstate this
    # very run; nothing depends on it
    inflation_meter: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inflation_meter and self.protocol == "paper":
            raise SettingsError("inflation_meter measures what an honest run does not claim; leave out protocol=paper")
        if self.skip_audit is not None and not self.skip_audit.strip():
            raise SettingsError("skip_audit must give a reason; it is printed with every result")
        if not 0 < self.train_fraction <= 1:
            raise SettingsError(f"train_fraction must be above 0 and at most 1, got {self.train_fraction}")
        if not 0 <= self.layer_decay <= 1:
            raise SettingsError(f"layer_decay must be 0 to 1, got {self.layer_decay}")
        if self.crop_voxels is not None and min(self.crop_voxels) < 1:
            raise SettingsError(f"crop_voxels must be at least 1, got {list(self.crop_voxels)}")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What every result of such a run is stamped with."""
        stamps = [OPTIMISTIC] if self.protocol == "paper" else []
        if self.permute_labels is not None:
            stamps.append(f"PERMUTED: labels were dealt out anew among subjects (seed {self.permute_labels})")
        if self.skip_audit is not None:
            stamps.append(f"{AUDIT_SKIPPED}: {self.skip_audit}")
        return tuple(stamps)


def stamps_of(summaries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """What everything made of a run must be stamped with, each once.

    Args:
        summaries: content of the folds' `summary.json`, or of the run's `metrics.json`.
    """
    return tuple(dict.fromkeys(summary["warning"] for summary in summaries if summary.get("warning")))


def without_reasons(stamps: Iterable[str]) -> tuple[str, ...]:
    """The stamps to give away: what the user wrote of people to skip the audit stays at home."""
    return tuple(
        stamp if AUDIT_SKIPPED not in stamp else stamp[: stamp.index(AUDIT_SKIPPED)] + AUDIT_SKIPPED for stamp in stamps
    )


@record
class PretrainingSettings(RunSettings):
    """Numbers a masked autoencoder is allowed to vary. Defaults: the AD-NeXt paper, Table 6."""

    epochs: int = 600
    learning_rate: float = 1e-4
    min_learning_rate: float = 1e-7
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_epochs: int = 40
    augmentation: str = "pretraining"
    mask_ratio: float = 0.6
    patch_size_voxels: int = 32
    decoder_width: int = 128
    norm_pix_loss: bool = False  # predict each patch brought to mean 0 and variance 1
    sparse_backend: Literal["gathered", "masked_dense", "minkowski", "masked_once"] = "gathered"
    # how each stage of the gathered backend convolves; None: what is faster here, measured when a run begins
    sparse_convolution: tuple[Literal["halo", "scatter"], ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decoder_width < 1:
            raise SettingsError(f"decoder_width must be at least 1, got {self.decoder_width}")


@record
class Plan:
    """The `adnext` block of a configuration in the plans file."""

    preprocessing: PreprocessingSettings = PreprocessingSettings()
    network: NetworkSettings = NetworkSettings()
    # overrides of a trainer's settings, checked by the trainer: of a labelled task, and of pre-training
    training: dict[str, Any] = field(default_factory=dict)
    pretraining: dict[str, Any] = field(default_factory=dict)
    prepared_by: Literal["adnext", "nnunet"] = "adnext"  # nnunet: volumes of any size, fitted when loaded
    task: Task | None = None  # filled in by the trainer, so that a saved model knows its outputs

    @property
    def network_input_voxels(self) -> tuple[int, int, int]:
        """(Z, Y, X) of what the network is fed: the stored volumes, or what training cuts from them."""
        return tuple(self.training.get("crop_voxels") or self.preprocessing.input_size_voxels)


def from_json(cls: type[RecordType], content: Mapping[str, Any], where: str) -> RecordType:
    """Read a record from a JSON object.

    Args:
        cls: the record's class.
        content: the object as parsed.
        where: file and key, for messages.

    Raises:
        SettingsError: an unknown key (with the nearest known one), a missing one or a value of the wrong type.
    """
    try:
        return TypeAdapter(cls).validate_python(dict(content))
    except ValidationError as error:
        raise SettingsError(_first_problem(error, cls, where)) from error


def to_json(instance: Any) -> dict[str, Any]:
    """The record as a JSON object; `from_json` gives it back."""
    return TypeAdapter(type(instance)).dump_python(instance, mode="json")


def with_overrides(settings: RecordType, overrides: Mapping[str, Any], where: str) -> RecordType:
    """A copy of `settings` with some fields replaced by values from JSON, checked like any other."""
    return from_json(type(settings), {**asdict(settings), **overrides}, where)


def require_same_preparation(theirs: Plan, own: Plan, where: Path) -> None:
    """Make sure that a dataset was prepared as the one that a network was trained on.

    Raises:
        SettingsError: it was not; names the plans file `where`.
    """
    if (theirs.preprocessing, theirs.prepared_by) != (own.preprocessing, own.prepared_by):
        raise SettingsError(
            f"{where}: the dataset was prepared differently from the one trained on; give both the same --preset"
        )


def _first_problem(error: ValidationError, cls: type, where: str) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        known = _field_names(cls, problem["loc"][:-1])
        return f"{where}: unknown key {key!r}{nearest_names(str(problem['loc'][-1]), known)}"
    if problem["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"{where}: {key!r} is missing"
    return f"{where}: {key} = {problem['input']!r}: {problem['msg']}"


def _field_names(cls: type, location: tuple) -> list[str]:
    for part in location:
        nested = {field.name: field.type for field in fields(cls)}.get(part)
        if not hasattr(nested, "__dataclass_fields__"):
            return []
        cls = nested
    return [field.name for field in fields(cls)]
