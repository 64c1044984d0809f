"""A preprocessed dataset as it is now, and whether it still is what a run was trained on.

Every command that combines a run with prepared data asks `refuse_other_data` before it writes anything.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from adnext_plugin.cohort import Cohort
from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import AdnextWarning, OtherDataError, PathsError
from adnext_plugin.files import read_json, require_file, write_json
from adnext_plugin.images import file_sha256
from adnext_plugin.paths import SPLITS_FILE, plans_file
from adnext_plugin.plan import configuration_of, data_identifier, plan_in, read_plans
from adnext_plugin.project_key import key_home, keyed_digest, project_key
from adnext_plugin.run_folder import FoldFolder
from adnext_plugin.stored_volumes import volume_file
from adnext_plugin.subjects import read_dataset
from adnext_plugin.trained_on import (
    Preparation,
    TrainedCase,
    TrainedOn,
    differences,
    not_compared,
    read_trained_on,
    without_paths,
)

CACHE_FILE = "volume_digests.json"  # of a preprocessed dataset, so that volumes are read once, not before every run


@dataclass(frozen=True, kw_only=True)
class PreparedData:
    """A preprocessed dataset: its cohort, and the plans and configuration of its volumes.

    Both are None where volumes do not matter: to what only sets predictions beside people and folds.
    """

    cohort: Cohort
    plans: str | None
    configuration: str | None

    @classmethod
    def open(cls, folder: Path, plans: str, configuration: str) -> "PreparedData":
        """Read a preprocessed dataset, which need not have folds.

        Raises:
            PathsError: a file is missing or damaged.
            SettingsError: the task in `dataset.json` is none.
            TableError: `subjects.csv` is unusable.
            SplitError: the folds in the file do not fit the subjects.
        """
        if (folder / SPLITS_FILE).is_file():
            cohort = Cohort.open(folder)
        else:
            task, subjects = read_dataset(folder)
            cohort = Cohort(task=task, subjects=subjects, splits=(), folder=folder)
        return cls(cohort=cohort, plans=plans, configuration=configuration)

    def trained_on(self, fold: int | str, covariates: Sequence[str] = ()) -> TrainedOn:
        """What a fold that is trained now is trained on.

        Args:
            fold: its number, or "all"; where there is no such fold, no case has a part in it.
            covariates: columns of `subjects.csv` that the network is told.

        Raises:
            PathsError: there are no such plans.
            SettingsError: there is no such configuration.
        """
        parts = ((case, part) for part, cases in self._parts(fold).items() for case in cases)
        return TrainedOn(
            dataset=self.cohort.name,
            preparation=self._preparation,
            task=self.cohort.task,
            fold=fold,
            covariates=tuple(covariates),
            key_digest=None if self._key is None else sha256(self._key).hexdigest(),
            cases={case: self._case(case, part, covariates) for case, part in sorted(parts)},
        )

    def _parts(self, fold: int | str) -> Mapping[str, Sequence[str]]:
        if fold == "all":
            return {"train": self.cohort.subjects["case_id"].tolist()}
        if not 0 <= int(fold) < len(self.cohort.splits):
            return {"none": self.cohort.subjects["case_id"].tolist()}
        return self.cohort.splits[int(fold)]

    def _case(self, case: str, part: str, covariates: Sequence[str]) -> TrainedCase:
        row, target = self._rows[case], self.cohort.task.target
        known = [str(row.get(name)) for name in covariates]
        return TrainedCase(
            part=part,
            subject=self._digest("subject", case, row["subject_id"]),
            label=None if target is None else self._digest("label", case, row[target]),
            covariates=self._digest("covariates", case, known) if known else None,
            volume=self._volumes.get(case),
        )

    def _digest(self, *parts: object) -> str:
        return "" if self._key is None else keyed_digest("\0".join(map(str, parts)), self._key)[:16]

    @cached_property
    def _rows(self) -> dict[str, dict[str, Any]]:
        rows = self.cohort.subjects.to_dict("records")
        return {row["case_id"]: {str(name): value for name, value in row.items()} for row in rows}

    @cached_property
    def _key(self) -> bytes | None:
        try:
            return project_key(key_home())
        except PathsError:  # another user's
            return None

    @cached_property
    def _configuration(self) -> dict[str, Any]:
        path = require_file(plans_file(self.cohort.folder, str(self.plans)), "bring it back, or plan the dataset again")
        return configuration_of(read_plans(path), str(self.configuration), str(path))

    @cached_property
    def _preparation(self) -> Preparation | None:
        if self.plans is None or self.configuration is None:
            return None
        plan = plan_in(self._configuration, self.plans)
        is_stock = plan.prepared_by == "nnunet"
        return Preparation(
            plans=self.plans,
            configuration=self.configuration,
            prepared_by=plan.prepared_by,
            preprocessing=without_paths(plan.preprocessing),
            stored_spacing_mm=tuple(self._configuration["spacing"]) if is_stock else None,
        )

    @cached_property
    def _volumes(self) -> dict[str, str]:
        if self._preparation is None:
            return {}
        images = self.cohort.folder / data_identifier(self._configuration, str(self.plans))
        return digests_of_volumes(images, self._rows, self.cohort.folder / CACHE_FILE)


def warn(remark: str) -> None:
    """Say something that does not stop a command."""
    warnings.warn(remark, AdnextWarning, stacklevel=3)


def refuse_other_data(folds: Iterable[FoldFolder], data: PreparedData, tell: Callable[[str], None] = warn) -> None:
    """Make sure that folds were trained on what a preprocessed dataset holds now; those not yet begun do not count.

    Args:
        folds: of one run.
        data: the dataset.
        tell: is told what could not be compared, at most one line of each kind.

    Raises:
        OtherDataError: a fold was trained on other data; names what has changed.
    """
    remarks: dict[str, str] = {}
    for fold in folds:
        if not fold.is_begun:
            continue
        if not fold.trained_on_file.is_file():
            remarks.setdefault(
                "not recorded",
                f"{fold.path} does not say on which data it was trained, as an earlier version made it; whether "
                f"{data.cohort.name} still holds them could not be checked",
            )
            continue
        then = read_trained_on(fold.trained_on_file)
        now = data.trained_on(then.fold, then.covariates)
        changed = differences(then, now)
        if changed:
            raise OtherDataError(
                f"{fold.path} was trained on other data than {data.cohort.name} holds now: {'; '.join(changed)}. "
                "Nothing was changed. To keep both, bring back the data as they were and plan the new ones under "
                f"another name (-p NAME); to begin anew, move {fold.path.parent} away"
            )
        lacking = not_compared(then, now)
        if lacking:
            remarks.setdefault("not compared", f"{fold.path}: could not compare {lacking} with those trained on")
    for remark in remarks.values():
        tell(remark)


def refuse_other_results(file: Path, data: PreparedData, columns: Sequence[str]) -> TrainedOn | None:
    """Make sure that results which lie beside `file` are of the data there are now.

    Args:
        file: what `write_trained_on` wrote when they were made, if so.
        data: the dataset.
        columns: of `subjects.csv` that new results come from, beside the target; those there are not do not count.

    Returns:
        What to write there with new results; None where the dataset's plans are gone, and nobody knows.

    Raises:
        OtherDataError: they are of other data; names what has changed.
    """
    if file.is_file():
        then = read_trained_on(file)
        changed = differences(then, data.trained_on("all", then.covariates))
        if changed:
            raise OtherDataError(
                f"{file.parent} holds results on other data than {data.cohort.name} holds now: {'; '.join(changed)}. "
                "Nothing was changed. Bring back the data as they were, or move the folder away to have new results"
            )
    elif not plans_file(data.cohort.folder, str(data.plans)).is_file():
        return None
    return data.trained_on("all", [name for name in dict.fromkeys(columns) if name in data.cohort.subjects])


def digests_of_volumes(images: Path, cases: Iterable[str], cache: Path) -> dict[str, str]:
    """SHA-256, shortened, of the stored volumes of cases that have one.

    Args:
        images: holds `{case}.b2nd`.
        cases: their ids.
        cache: file that keeps digests by folder and case with size and time of the file; where it can be neither read
            nor written, volumes are read again.
    """
    stored = _read_cache(cache)
    known = stored.get(images.name, {})
    states = {}
    for case in cases:
        with suppress(OSError):
            status = volume_file(images, case).stat()
            states[case] = [status.st_size, status.st_mtime_ns]
    new = [case for case, state in states.items() if known.get(case, [])[:2] != state]
    with ThreadPoolExecutor(usable_cpus()) as pool:
        made = dict(zip(new, pool.map(lambda case: file_sha256(volume_file(images, case))[:32], new), strict=True))
    found: dict[str, list] = {case: [*state, made.get(case) or known[case][2]] for case, state in states.items()}
    if new:
        with suppress(OSError, PathsError):  # read-only data, or a full disk
            write_json({**stored, images.name: found}, cache)
    return {case: digest for case, (_, _, digest) in found.items()}


def _read_cache(path: Path) -> dict[str, dict[str, list]]:
    try:
        content = read_json(path)
        return {
            name: {case: [*state] for case, state in cases.items() if len(state) == 3}
            for name, cases in content.items()
        }
    except (PathsError, AttributeError, TypeError):
        return {}
