"""Scans one after the other through all networks of a model: calibrated probabilities, calls and warnings."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from scipy.special import softmax

from adnext_plugin.case_properties import CaseProperties, read_case_properties
from adnext_plugin.data.store import CaseStore
from adnext_plugin.errors import AdnextError, ImageError, SettingsError
from adnext_plugin.headers import file_doubts
from adnext_plugin.memory_shortage import FOR_PREDICTION, memory_that_may_run_out
from adnext_plugin.parallel import for_each
from adnext_plugin.prediction.description import FoldDescription, ModelDescription
from adnext_plugin.prediction.inputs import Inputs, ScanInput
from adnext_plugin.prediction.measured import far_out, measure
from adnext_plugin.prediction.preparation import prepare_scan
from adnext_plugin.preprocessing.brains.brain_networks import MEMORY_BYTES, brains_at_once
from adnext_plugin.preprocessing.fitted import StoredToInput
from adnext_plugin.preprocessing.preprocessor import CaseJob
from adnext_plugin.progress import progress_bar
from adnext_plugin.stored_volumes import properties_file, volume_file

READ_AHEAD = 3  # stored scans
CUT_OFF_SHARE = 0.01  # of the brain, beyond the network's input


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Of one scan.

    `answer` (K,): calibrated probabilities of the classes, or the predicted number, mean over networks. `spread` (K,):
    standard deviation of that over networks. `outputs`: by fold, what the network gave: logits, or the number.
    `called`: index of the class that is called; None for a number. `feature_distance`: mean over networks of the
    distance in units of the median of held-out people; None where that is not known.
    """

    answer: np.ndarray
    spread: np.ndarray
    outputs: dict[str, np.ndarray]
    called: int | None
    feature_distance: float | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PreparedScan:
    """The network's input, (C, Z, Y, X), and what is known of how it came about; `warnings` of its header."""

    image_czyx: np.ndarray
    properties: CaseProperties | None
    warnings: tuple[str, ...] = field(default=())


See = Callable[[ScanInput, PreparedScan, pd.DataFrame, Prediction], None]


@dataclass(frozen=True, kw_only=True)
class FoldAnswer:
    """Of one network: logits, or the number in the target's unit, (K,) float64; how far its features are off."""

    outputs: np.ndarray
    feature_distance: float | None


class Networks(Protocol):
    """The networks of a model at work, in the order of its folds, whatever runs them.

    `columns`: what must be known of a person beside the scan. `know_features`: they say how far features are off.
    `shortfall`: a line for where they cannot compute as they were trained. `device`: cpu, cuda or mps; brains are
    extracted there, too. They are called with images (C, Z, Y, X).
    """

    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def know_features(self) -> bool: ...
    @property
    def shortfall(self) -> str | None: ...
    @property
    def device(self) -> str: ...
    def __call__(self, image_czyx: np.ndarray, row: pd.DataFrame) -> Sequence[FoldAnswer]: ...


class Ensemble:
    """The networks of a model, and what their answers mean together (`eager.ensemble_of` makes one of a model)."""

    def __init__(self, description: ModelDescription, networks: Networks) -> None:
        self._model = description
        self._task = description.plan.known_task
        self._networks = networks

    @property
    def description(self) -> ModelDescription:
        """What the networks are."""
        return self._model

    @property
    def columns(self) -> tuple[str, ...]:
        """What must be known of a person beside the scan."""
        return self._networks.columns

    @property
    def shortfall(self) -> str | None:
        """A line for where networks cannot compute as they were trained."""
        return self._networks.shortfall

    @property
    def not_checked(self) -> tuple[str, ...]:
        """Which of intensities, size and features cannot be compared with the training scans'."""
        kinds = {name.partition("_")[0] for name in self._model.ranges}
        names = {"intensity": "intensities", "extent": "size", "spacing": "voxel size"}
        missing = [word for kind, word in names.items() if kind not in kinds]
        if not self._networks.know_features:
            missing.append("features")
        return tuple(missing)

    def predict(
        self, inputs: Inputs, folder: Path, processes: int, see: See | None = None
    ) -> Iterator[tuple[ScanInput, Prediction | AdnextError]]:
        """Predict scans in any order, losing none because of another.

        Args:
            inputs: the scans.
            folder: for prepared volumes, each removed when it has been predicted.
            processes: how many scans to prepare at once.
            see: is shown every scan that was predicted; what it raises is raised.
        """
        if inputs.is_prepared:
            yield from self.predict_stored(inputs, see)
        else:
            yield from self._predict_each(inputs, self._prepare(inputs, folder, processes), see)

    def predict_stored(
        self, inputs: Inputs, see: See | None = None
    ) -> Iterator[tuple[ScanInput, Prediction | AdnextError]]:
        """Predict volumes of a preprocessed dataset, one after the other, losing none because of another."""
        yield from self._predict_each(inputs, _each_stored(inputs, self._model), see)

    def _predict_each(
        self, inputs: Inputs, prepared: Iterable[tuple[int, PreparedScan | AdnextError]], see: See | None
    ) -> Iterator[tuple[ScanInput, Prediction | AdnextError]]:
        for index, scan in prepared:
            row = inputs.columns.iloc[[index]]
            found = self._predict_or_say_why_not(scan, row)
            if see is not None and isinstance(scan, PreparedScan) and isinstance(found, Prediction):
                see(inputs.scans[index], scan, row, found)
            yield inputs.scans[index], found

    def _predict_or_say_why_not(self, scan: PreparedScan | AdnextError, row: pd.DataFrame) -> Prediction | AdnextError:
        if isinstance(scan, AdnextError):
            return scan
        try:
            with memory_that_may_run_out(FOR_PREDICTION):
                return self._predict(scan, row)
        except AdnextError as error:
            return error

    def _predict(self, scan: PreparedScan, row: pd.DataFrame) -> Prediction:
        found = self._networks(scan.image_czyx, row)
        if not all(np.isfinite(fold.outputs).all() for fold in found):
            raise ImageError("the network's output is not finite; is the scan damaged?")
        answers = self.answers(found)
        mean = answers.mean(axis=0)
        distance, is_far = self._feature_distance([fold.feature_distance for fold in found])
        return Prediction(
            answer=mean,
            spread=answers.std(axis=0),
            outputs={fold.name: one.outputs for fold, one in zip(self._model.folds, found, strict=True)},
            called=self._call(mean),
            feature_distance=distance,
            warnings=(
                *scan.warnings,
                *far_out(measure(scan.image_czyx[0], scan.properties), self._model.ranges),
                *_cut_off(scan.properties),
                *([f"features: {distance:.1f} times as far off as people usually are"] if is_far else []),
                *self._unknown(row),
            ),
        )

    def answers(self, found: Sequence[FoldAnswer]) -> np.ndarray:
        """Calibrated probabilities of each network, or its number, (folds, K)."""
        return np.stack([self._answer(one.outputs, fold) for fold, one in zip(self._model.folds, found, strict=True)])

    def _answer(self, outputs: np.ndarray, fold: FoldDescription) -> np.ndarray:
        return outputs if self._task.kind == "regression" else softmax(outputs / fold.temperature)

    def _call(self, answer: np.ndarray) -> int | None:
        if self._task.kind == "regression":
            return None
        if self._model.threshold is None:
            return int(answer.argmax())
        return int(answer[1] >= self._model.threshold)

    def _feature_distance(self, distances: list[float | None]) -> tuple[float | None, bool]:
        if "features" in self.not_checked:
            return None, False
        ratios, far = [], []
        for fold, distance in zip(self._model.folds, distances, strict=True):
            usual = fold.feature_distance
            if distance is None or usual is None:
                return None, False
            ratios.append(distance / usual.median)
            far.append(distance > usual.limits[1])
        return float(np.mean(ratios)), sum(far) * 2 > len(far)

    def _unknown(self, row: pd.DataFrame) -> list[str]:
        # standardised covariates stand in for what is missing with the training mean, as they did in training
        missing = [name for name in self.columns if str(row[name].iloc[0]) in ("", "nan")]
        return [f"{name} is not known; the mean of those trained on was taken" for name in missing]

    def _prepare(
        self, inputs: Inputs, folder: Path, processes: int
    ) -> Iterator[tuple[int, PreparedScan | AdnextError]]:
        if self._model.plan.prepared_by == "nnunet":
            raise SettingsError(
                "the model was trained on volumes prepared by nnU-Net's own preprocessing, so that scans cannot be "
                "prepared here; preprocess them as a dataset with nnUNetv2_preprocess and give that as -i"
            )
        settings = self._model.plan.preprocessing
        if settings.brain_extraction == "mask_files":
            raise SettingsError(
                "the model was trained on brains cut out by mask files; import and preprocess the scans with their "
                "masks as a dataset and give that as -i"
            )
        jobs = [
            CaseJob(case=f"scan_{index}", image=scan.image, further=scan.further, folder=folder, settings=settings)
            for index, scan in enumerate(inputs.scans)
            if not scan.missing
        ]
        complete = [index for index, scan in enumerate(inputs.scans) if not scan.missing]
        for index, scan in enumerate(inputs.scans):
            if scan.missing:
                yield index, _incomplete(scan, self._model)
        device = self._networks.device
        if settings.brain_extraction in MEMORY_BYTES:
            processes = brains_at_once(settings.brain_extraction, processes, device)
        prepare = partial(prepare_scan, device=device)
        for number, outcome in for_each(prepare, jobs, processes=processes, description="Predicting"):
            index, job = complete[number], jobs[number]
            if isinstance(outcome, AdnextError):
                yield index, outcome
                continue
            channels = self._model.in_channels
            image_czyx = CaseStore(folder, [job.case], settings.input_size_voxels, channels=channels)[0]
            for path in (volume_file(folder, job.case), properties_file(folder, job.case)):
                path.unlink()
            doubts = (doubt.text for path in (job.image, *job.further) for doubt in file_doubts(path))
            warnings = tuple(dict.fromkeys(doubts))
            empty = (
                f"{name} is 0 everywhere, as of a person who has no such image"
                for place, name in enumerate(self._model.images or ())
                if place and not image_czyx[place].any()
            )
            warnings = (*warnings, *empty)
            yield index, PreparedScan(image_czyx=image_czyx, properties=outcome.properties, warnings=warnings)
            if outcome.properties.mask is not None:  # until here whoever sees the scan may want it
                Path(outcome.properties.mask).unlink(missing_ok=True)


def _incomplete(scan: ScanInput, model: ModelDescription) -> ImageError:
    """Of a scan that lacks images."""
    names = model.images or ()
    return ImageError(
        f"{scan.case_id} has no {' and no '.join(scan.missing)}, and the model takes {', '.join(names)}: files ending "
        f"with {', '.join(f'_{place:04d}' for place in range(len(names)))}, columns of a table, or --channel"
    )


def _each_stored(inputs: Inputs, model: ModelDescription) -> Iterator[tuple[int, PreparedScan | AdnextError]]:
    def attempt(index: int) -> PreparedScan | AdnextError:
        try:
            return read_stored(inputs, index, model)
        except AdnextError as error:
            return error

    # the next ones are read while the networks look at this one; reading leaves Python's lock to others
    with ThreadPoolExecutor(1) as reader:
        waiting: deque[Future[PreparedScan | AdnextError]] = deque()
        for index in progress_bar(range(len(inputs.scans)), desc="Predicting", unit="case"):
            for ahead in range(index + len(waiting), min(index + READ_AHEAD, len(inputs.scans))):
                waiting.append(reader.submit(attempt, ahead))
            yield index, waiting.popleft().result()


def read_stored(inputs: Inputs, index: int, model: ModelDescription) -> PreparedScan:
    """One case of a preprocessed dataset as the model's networks take it.

    Args:
        inputs: stored volumes.
        index: which of them.
        model: whose networks.

    Raises:
        AdnextError: the file is missing or damaged, or of another size.
    """
    volume_file = inputs.scans[index].image
    geometry = model.plan.preprocessing
    to_input = properties = None
    is_own = model.plan.prepared_by != "nnunet"
    if is_own:
        properties = read_case_properties(volume_file.with_suffix(".pkl"))
    elif inputs.stored_spacing_mm is not None:
        # nnU-Net notes nothing that could be compared, and chooses voxels for each dataset anew
        to_input = StoredToInput(settings=geometry, stock_spacing_mm=inputs.stored_spacing_mm)
    store = CaseStore(
        volume_file.parent,
        [volume_file.stem],
        geometry.input_size_voxels,
        to_input,
        is_own=is_own,
        channels=model.in_channels,
    )
    return PreparedScan(image_czyx=store[0], properties=properties)


def _cut_off(properties: CaseProperties | None) -> list[str]:
    share = 0.0 if properties is None else properties.share_of_foreground_cut_off
    return [f"size: {share:.0%} of the foreground lies outside of the input"] if share > CUT_OFF_SHARE else []
