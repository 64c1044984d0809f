"""Settings of runs: what a trainer, a plans file or a command line may vary."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from adnext_plugin.errors import SettingsError
from adnext_plugin.records import record
from adnext_plugin.stamps import AUDIT_SKIPPED, FAST, OPTIMISTIC, OTHER_PEOPLE

ClassWeights = Literal["inverse_frequency", "none", "counts"]
Protocol = Literal["honest", "paper"]
Precision = Literal["float32", "tf32", "float16", "bfloat16"]
PrecisionSetting = Literal["auto", Precision]
AUTO = "auto"  # of a setting that a run decides when it begins
REASONS = ("skip_audit", "other_people")  # settings whose text is the user's, and may name people
FAST_EPOCHS, FAST_SUBJECTS = 2, 16  # at most, of a fold that is trained in miniature
REASON_GIVEN = "a reason was given"  # all that is shared of it
# settings of labelled tasks that mean nothing to a model that is fitted at once
OF_DESCENT = (
    *("epochs", "learning_rate", "min_learning_rate", "weight_decay", "betas", "optimizer", "amsgrad", "momentum"),
    *("schedule", "schedule_unit", "warmup_epochs", "patience_epochs", "augmentation", "pretrained_weights"),
    *("protocol", "evaluate_with", "layer_decay", "precise_batch_norm", "inflation_meter"),
)


def require_seed(name: str, seed: int) -> int:
    """A seed that every generator takes.

    Args:
        name: of the setting or option, for the message.
        seed: as asked for.

    Raises:
        SettingsError: it is negative, or has more than 32 bits.
    """
    if not 0 <= seed < 2**32:
        raise SettingsError(f"{name} must be from 0 to {2**32 - 1}, got {seed}")
    return seed


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
    amsgrad: bool = False  # of Adam and AdamW
    momentum: float = 0.0  # of SGD
    schedule: Literal["cosine", "constant", "poly"] = "cosine"  # poly: nnU-Net's, with exponent 0.9
    # step: the rate changes with every training step, and a warm-up begins at a thousandth of the peak
    schedule_unit: Literal["epoch", "step"] = "epoch"
    warmup_epochs: int = 0
    patience_epochs: int | None = None  # stop when as many epochs in a row were no better than the best
    augmentation: str = "paper"
    # before scoring an epoch, average the statistics of batch norms over the training cases
    precise_batch_norm: bool = False
    precision: PrecisionSetting = "auto"  # of networks, their heads apart; see training/precision.py
    accumulate: int = 1  # parts in which a batch goes through the network, one after the other
    pretrained_weights: str | None = None  # checkpoint whose encoder to start from; {fold} stands for the fold
    seed: int = 42
    # keep all volumes on the GPU and change them there; auto: where they fit and the augmentation can be done there.
    # Means nothing on a CPU
    data_on_gpu: Literal["auto", "on", "off"] = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 1 <= self.accumulate <= self.batch_size:
            raise SettingsError(f"accumulate must be 1 to batch_size ({self.batch_size}), got {self.accumulate}")
        require_seed("seed", self.seed)
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
    class_weights: ClassWeights = "inverse_frequency"
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
    permute_labels: int | None = None  # seed of a deal of all labels among all subjects, which leaves nothing to learn
    skip_audit: str | None = None  # why people or images on both sides of a fold were not looked for
    # why ids that this dataset shares with what the first weights have seen are those of different people
    other_people: str | None = None
    # forget what is inside the network's blocks until the backward pass: less memory, more time
    recompute: bool = False
    # also predict the held-out fold after every epoch, to show by how much the paper's protocol would overstate this
    # very run; nothing depends on it
    inflation_meter: bool = False
    # a rehearsal: FAST_EPOCHS epochs unless others are asked for, on FAST_SUBJECTS people of the training part
    fast: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inflation_meter and self.protocol == "paper":
            raise SettingsError("inflation_meter measures what an honest run does not claim; leave out protocol=paper")
        for name in REASONS:
            reason = getattr(self, name)
            if reason is not None and not reason.strip():
                raise SettingsError(f"{name} must give a reason, which is kept beside the preprocessed data")
        if self.permute_labels is not None:
            require_seed("permute_labels", self.permute_labels)
        if not 0 < self.train_fraction <= 1:
            raise SettingsError(f"train_fraction must be above 0 and at most 1, got {self.train_fraction}")
        if not 0 <= self.layer_decay <= 1:
            raise SettingsError(f"layer_decay must be 0 to 1, got {self.layer_decay}")
        if self.crop_voxels is not None and min(self.crop_voxels) < 1:
            raise SettingsError(f"crop_voxels must be at least 1, got {list(self.crop_voxels)}")

    @classmethod
    def known_part(cls, content: Mapping[str, Any]) -> dict[str, Any]:
        """Of settings as a checkpoint of any trainer holds them, those that all trainers of labelled tasks have."""
        return {name: value for name, value in content.items() if name in TrainerSettings.__dataclass_fields__}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What every result of such a run is stamped with."""
        stamps = [FAST] if self.fast else []
        if self.protocol == "paper":
            stamps.append(OPTIMISTIC)
        if self.permute_labels is not None:
            stamps.append(f"PERMUTED: labels were dealt out anew among subjects (seed {self.permute_labels})")
        if self.skip_audit is not None:
            stamps.append(AUDIT_SKIPPED)
        if self.other_people is not None:
            stamps.append(OTHER_PEOPLE)
        return tuple(stamps)


@record
class FittedSettings(TrainerSettings):
    """What a model that is fitted at once is allowed to vary: nothing that concerns descent by gradients."""

    epochs: int = 1
    augmentation: str = "none"
    evaluate_with: Literal["best", "final"] = "final"
    classifier: Literal["logistic", "svm"] = "logistic"  # a number is learned by ridge regression
    # how much images count beside covariates, each of which counts 1; with 0 covariates alone say all
    image_weight: float = 1.0
    inner_folds: int = 5  # of people within the training part, on which the strength of the penalty is chosen
    # also fit on `selection`; predictions for its people are then those of inner folds that leave them out
    learn_from_selection: bool = False

    means_nothing: ClassVar[tuple[str, ...]] = OF_DESCENT

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.means_nothing:
            value, only = getattr(self, name), type(self).__dataclass_fields__[name].default
            if value != only:
                raise SettingsError(
                    f"a linear model is fitted at once, without epochs and rates, so that {name} can only be {only!r}, "
                    f"got {value!r}; leave it out"
                )
        if self.image_weight < 0:
            raise SettingsError(f"image_weight must be 0 or more, got {self.image_weight}")
        if self.image_weight == 0 and not self.covariates:
            raise SettingsError("with image_weight=0 only covariates are looked at; name some")
        if self.inner_folds < 2:
            raise SettingsError(f"inner_folds must be at least 2, got {self.inner_folds}")


@record
class LinearSettings(FittedSettings):
    """What a linear model of voxels is allowed to vary."""

    smoothing_mm: float = 6.0  # full width at half maximum of a Gaussian; 0 leaves images as they are
    # a voxel is looked at if it is not empty in at least this share of the training scans; with 0 every voxel is
    mask_share: float = 0.5
    channels: tuple[str, ...] = ()  # names of those that are looked at; none: all

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smoothing_mm < 0 or not 0 <= self.mask_share <= 1:
            raise SettingsError(
                f"smoothing_mm must be 0 or more and mask_share 0 to 1, got {self.smoothing_mm} and {self.mask_share}"
            )


@record
class ProbeSettings(FittedSettings):
    """What a linear model of a frozen encoder's features is allowed to vary."""

    precision: PrecisionSetting = "float32"  # what sets people apart can be a small part of features
    learn_from_selection: bool = True
    # what a pre-training by the objective `proxy` has learned to tell: the model sees the network's answers to these,
    # each of which counts as images do, instead of all features
    bottleneck: tuple[str, ...] = ()

    means_nothing: ClassVar[tuple[str, ...]] = tuple(name for name in OF_DESCENT if name != "pretrained_weights")


@record
class PretrainingSettings(RunSettings):
    """What a pre-training is allowed to vary. Defaults: the AD-NeXt paper, Table 6.

    In JSON, an option of the objective may stand among the settings, `{"mask_ratio": 0.5}` for
    `{"options": {"mask_ratio": 0.5}}`: so it is short on the command line, and so it was when there was one objective.
    """

    epochs: int = 600
    learning_rate: float = 1e-4
    min_learning_rate: float = 1e-7
    betas: tuple[float, float] = (0.9, 0.95)
    warmup_epochs: int = 40
    augmentation: str = "pretraining"
    precise_batch_norm: bool = True  # what the encoder hands on are its statistics, too
    objective: str | None = None  # a name in the group adnext.objectives; None leaves it to the plan
    options: dict[str, Any] = field(default_factory=dict)  # of the objective, which checks them

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, content: Any) -> Any:
        if not isinstance(content, dict):  # made in Python, where a misspelt field must not pass for an option
            return content
        own = {name: value for name, value in content.items() if name in cls.__dataclass_fields__}
        others = {name: value for name, value in content.items() if name not in own}
        if others and isinstance(own.get("options", {}), dict):
            own["options"] = {**own.get("options", {}), **others}
        return own


@record
class SegmentationSettings:
    """What a trainer of segmentation is allowed to vary. Defaults: fine-tuning in AMAES (Munk et al. 2024).

    nnU-Net loads, augments, validates and predicts; what is not named here is its own.
    """

    epochs: int = 10
    steps_per_epoch: int = 250  # an epoch is so many batches, as nnU-Net has it
    validation_steps: int = 50  # batches after each epoch, for the pseudo Dice that the best epoch is chosen by
    batch_size: int | None = 4  # None: the plan's
    learning_rate: float = 1e-4  # at the peak of the schedule
    min_learning_rate: float = 1e-9  # where a cosine ends
    weight_decay: float = 3e-5
    betas: tuple[float, float] = (0.9, 0.999)
    amsgrad: bool = True
    schedule: Literal["cosine", "constant", "poly"] = "cosine"
    schedule_stretch: float = 1.15  # the schedule is that of a run so many times as long, and this one stops before
    warmup_epochs: int = 0
    # auto: what AMAES does, `spatial` after pre-training and `all` from scratch; nnunet: nnU-Net's own, with mirrors
    augmentation: Literal["auto", "spatial", "all", "nnunet"] = "auto"
    patch_voxels: tuple[int, int, int] | None = None  # (Z, Y, X); None: the plan's, rounded up for the network
    patch_scale: float = 1.0  # of the plan's patch, before it is rounded up
    deep_supervision: bool = False  # coarser levels give logits, too; of MedNeXt-v2
    recompute: bool = False  # forget what is inside blocks until the backward pass: less memory, more time
    network_options: dict[str, Any] = field(default_factory=dict)  # of the encoder's network
    pretrained_weights: str | None = None  # checkpoint whose encoder to start from; {fold} stands for the fold
    n_train: int | None = None  # cases that are trained on; fewer are part of more, under one seed
    folds: int | None = None  # to draw where the dataset has none yet; None: nnU-Net's five
    seed: int = 42  # of first weights and of n_train; the rest of nnU-Net is not seeded

    def __post_init__(self) -> None:
        for name in ("epochs", "steps_per_epoch", "validation_steps", "batch_size", "n_train"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise SettingsError(f"{name} must be at least 1, got {value}")
        if self.folds is not None and self.folds < 2:
            raise SettingsError(f"folds must be at least 2, got {self.folds}")
        if self.schedule_stretch < 1 or self.patch_scale < 1:
            raise SettingsError(
                "schedule_stretch and patch_scale must be at least 1, "
                f"got {self.schedule_stretch} and {self.patch_scale}"
            )
        if self.patch_voxels is not None and self.patch_scale != 1:
            raise SettingsError("patch_voxels and patch_scale both say how large a patch is; give one of them")
        self.schedule_settings  # noqa: B018  checks rates and epochs
        require_seed("seed", self.seed)

    @property
    def schedule_settings(self) -> RunSettings:
        """The schedule, as that of a run of whole scans.

        Raises:
            SettingsError: rates or epochs are impossible.
        """
        return RunSettings(
            epochs=int(self.schedule_stretch * self.epochs),
            learning_rate=self.learning_rate,
            min_learning_rate=self.min_learning_rate,
            schedule=self.schedule,
            warmup_epochs=self.warmup_epochs,
        )
