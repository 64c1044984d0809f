"""What a checkpoint says of itself besides weights: its `adnext` block, as a record."""

from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat

from adnext_plugin.errors import AdnextError, WeightsError
from adnext_plugin.formats import Format
from adnext_plugin.paths import BLOCK
from adnext_plugin.records import from_json, record, to_json
from adnext_plugin.run_records import Corpus, Provenance
from adnext_plugin.settings import Precision
from adnext_plugin.training.covariates import CovariateScale

CHECKPOINT = Format(
    name="adnext_checkpoint",
    version=1,
    known_by="settings",
    words="a checkpoint of an AD-NeXt trainer",
    remedy="train with one",
)


@record
class TargetScale:
    """Mean and standard deviation of the training targets, which a regression's output counts in."""

    mean: FiniteFloat
    standard_deviation: FiniteFloat


@record
class CheckpointNotes:
    """What a resumed run, an audit and a prediction need to know of a network."""

    settings: dict[str, Any]  # of the trainer, as they were resolved
    best: tuple[float, float]  # rank of the best epoch so far
    best_epoch: int | None
    provenance: Provenance
    precision: Precision | None = None  # that it was trained in; None: by an earlier version
    kernels: dict[str, Any] | None = None  # how convolutions are computed, by shape; None where nothing was chosen
    processes: int | None = None  # how many trained it together; None: by an earlier version
    pretraining_data: Corpus | None = None  # whom the network has seen; None where it is not known
    target_scale: TargetScale | None = None
    covariate_scale: CovariateScale | None = None
    further: dict[str, Any] = field(default_factory=dict)  # what a trainer or objective of one's own adds

    def block(self) -> dict[str, Any]:
        """As a checkpoint keeps it, beside nnU-Net's own keys."""
        scale = self.covariate_scale
        content = {
            "settings": self.settings,
            "best": list(self.best),
            "best_epoch": self.best_epoch,
            **({} if self.precision is None else {"precision": self.precision}),
            **({} if self.kernels is None else {"kernels": self.kernels}),
            **({} if self.processes is None else {"processes": self.processes}),
            "pretraining_data": None if self.pretraining_data is None else to_json(self.pretraining_data),
            **({} if self.target_scale is None else {"target_scale": asdict(self.target_scale)}),
            **({} if scale is None else {"covariate_scale": scale.to_json()}),
            **({"further": self.further} if self.further else {}),
            **to_json(self.provenance),
        }
        return CHECKPOINT.stamped(content)


def notes_of(checkpoint: Mapping[str, Any], where: Path | str) -> CheckpointNotes:
    """The notes of a checkpoint.

    Args:
        checkpoint: as read.
        where: its file, for messages.

    Raises:
        WeightsError: it has none, or such as this version cannot read.
    """
    notes = find_notes(checkpoint, where)
    if notes is None:
        raise WeightsError(f"{where} was not made by an AD-NeXt trainer; train with one")
    return notes


def find_notes(checkpoint: Mapping[str, Any], where: Path | str) -> CheckpointNotes | None:
    """As `notes_of`, but None of a checkpoint without notes, such as nnU-Net's own.

    Raises:
        WeightsError: it has notes that this version cannot read.
    """
    if BLOCK not in checkpoint:
        return None
    named = f"{where}, {BLOCK}"
    try:
        content = CHECKPOINT.content_of(checkpoint[BLOCK], named)
        provenance = Provenance.taken_from(content, named)
        return from_json(CheckpointNotes, {**content, "provenance": provenance}, named)
    except AdnextError as error:
        raise WeightsError(str(error)) from error
