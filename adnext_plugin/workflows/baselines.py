"""Which simple models stand beside a network, of the cohort it was trained on and of other people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import TableError, nearest_names
from adnext_plugin.paths import REGION_VOLUME
from adnext_plugin.run_folder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.studies.baselines import Baseline
    from adnext_plugin.task import Task

USUAL_BASELINE = ("age", "sex")
REGIONS = "regions"  # asked for by this word instead of columns; always there where `adnext_regions` has measured them


@dataclass(frozen=True, kw_only=True, eq=False)
class OtherPeople:
    """A preprocessed dataset of people whom the baselines are asked about, too: its folder, `subjects.csv` and task."""

    folder: Path
    subjects: "pd.DataFrame"
    task: "Task"


def baselines_of(
    run: RunFolder,
    configuration: str,
    wanted: Sequence[tuple[str, ...]],
    cohort: "Cohort",
    others: OtherPeople | None = None,
) -> "tuple[list[Baseline], list[str]]":
    """Models to set beside the network, and remarks on what they lack.

    Args:
        run: trained on the cohort.
        configuration: of its plans.
        wanted: columns of `subjects.csv` for linear models, or "regions"; age and sex are always one, and volumes of
            regions where they were measured.
        cohort: with the targets that were trained on.
        others: whom the models must be able to see as well.

    Raises:
        TableError: a column that was asked for is missing, or has too many different words.
    """
    from adnext_plugin.evaluation.studies.baselines import covariates, knows_nothing, regions, voxels
    from adnext_plugin.paths import DATASET_FILE
    from adnext_plugin.plan import configuration_of, data_identifier, plan_in, read_plans
    from adnext_plugin.preprocessing.chain import channels_of
    from adnext_plugin.task import image_names_in

    baselines, notes = [knows_nothing(cohort)], []
    for number, columns in enumerate(dict.fromkeys([USUAL_BASELINE, *_without_regions(wanted)])):
        if number > 0:
            _require_columns(columns, cohort, others)
        usable = [name for name in columns if _is_usable(name, cohort, others)]
        if len(usable) < len(columns):
            left_out = ", ".join(name for name in columns if name not in usable)
            notes.append(
                f"baseline {'+'.join(columns)} is without {left_out}, which is unknown or gives the target away"
            )
        if usable and "+".join(usable) not in [baseline.name for baseline in baselines]:
            baselines.append(covariates(cohort, usable))
    volumes = region_columns(cohort.subjects if others is None else cohort.subjects[_shared(cohort, others)])
    if volumes:
        baselines.append(
            regions(cohort, volumes, [name for name in USUAL_BASELINE if _is_usable(name, cohort, others)])
        )
        missing = int(cohort.subjects[list(volumes)].isna().any(axis=1).sum())
        if missing:
            notes.append(f"baseline regions: {missing} cases could not be measured and count as the training median")
    elif (REGIONS,) in wanted:
        where = cohort.name if others is None or not region_columns(cohort.subjects) else others.folder.name
        raise TableError(f"--baseline regions: those of {where} were not measured; run adnext_regions -d {where}")
    chosen = configuration_of(read_plans(run.plans_file), configuration, str(run.plans_file))
    plan = plan_in(chosen, str(run.plans_file))
    if plan.prepared_by == "nnunet":
        notes.append("no voxel baseline: the volumes were prepared by nnU-Net and have different sizes")
        return baselines, notes
    size = plan.preprocessing.input_size_voxels
    images = data_identifier(chosen, str(run.plans_file))
    channels = len(channels_of(plan.preprocessing, image_names_in(cohort.folder / DATASET_FILE)))
    read_own = _reader(cohort.folder / images, cohort.subjects, size, channels)
    read_others = None if others is None else _reader(others.folder / images, others.subjects, size, channels)
    baselines.append(voxels(cohort, read_own, plan.preprocessing.spacing_mm, read_others))
    return baselines, notes


def columns_of(wanted: Sequence[tuple[str, ...]], subjects: "pd.DataFrame") -> tuple[str, ...]:
    """All columns of `subjects` that the linear models ask for."""
    models = (USUAL_BASELINE, *_without_regions(wanted), region_columns(subjects))
    return tuple(dict.fromkeys(name for columns in models for name in columns))


def region_columns(subjects: "pd.DataFrame") -> tuple[str, ...]:
    """Volumes of the regions for a linear model: of the medial temporal lobes, or all of an atlas of the user's own."""
    from adnext_plugin.preprocessing.anatomy.regions import medial_temporal_volumes

    built_in = [f"{name}{REGION_VOLUME}" for name in medial_temporal_volumes()]
    if all(name in subjects for name in built_in):
        return tuple(built_in)
    return tuple(str(name) for name in subjects if str(name).endswith(REGION_VOLUME))


def _without_regions(wanted: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [columns for columns in wanted if columns != (REGIONS,)]


def _shared(cohort: "Cohort", others: OtherPeople) -> list[str]:
    return [name for name in cohort.subjects if name in others.subjects]


def _require_columns(columns: Sequence[str], cohort: "Cohort", others: OtherPeople | None) -> None:
    tables = [(cohort.name, cohort.subjects), *([] if others is None else [(others.folder.name, others.subjects)])]
    for dataset, table in tables:
        absent = [name for name in columns if name not in table]
        if absent:
            suggestion = nearest_names(absent[0], map(str, table))
            raise TableError(f"--baseline: subjects.csv of {dataset} has no column {absent[0]!r}{suggestion}")


def _is_usable(name: str, cohort: "Cohort", others: OtherPeople | None) -> bool:
    tasks = [cohort.task, *([] if others is None else [others.task])]
    is_known = name in cohort.subjects and (others is None or name in others.subjects)
    return is_known and not any(name in (task.target, *task.derived_from) for task in tasks)


def _reader(
    images: Path, subjects: "pd.DataFrame", size_voxels: tuple[int, int, int], channels: int
) -> "Callable[[str], np.ndarray]":
    """Gives the first channel of the stored volume of a case id."""
    from adnext_plugin.data.store import CaseStore

    store = CaseStore(images, subjects["case_id"].tolist(), size_voxels, channels=channels)
    index = {case: number for number, case in enumerate(store.cases)}
    return lambda case: store[index[case]][0]
