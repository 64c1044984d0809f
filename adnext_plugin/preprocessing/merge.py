"""Several preprocessed datasets as one, without copying a volume: for pre-training on more than one source."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from adnext_plugin.errors import PathsError, SettingsError, TableError
from adnext_plugin.files import link_or_copy, read_object, replacing_folder, require_file, write_json
from adnext_plugin.paths import BLOCK, CONFIGURATION, DATASET_FILE, SUBJECTS_FILE, plans_file, without_links
from adnext_plugin.plan import data_identifier, plan_of, read_plans
from adnext_plugin.records import to_json
from adnext_plugin.splits.folds import ensure_splits
from adnext_plugin.subjects import ID_COLUMNS, read_dataset, write_subjects
from adnext_plugin.task import Task, image_names_in

SHARED_COLUMNS = (*ID_COLUMNS, "age", "sex", "site", "image_sha256")


def merge_datasets(sources: Sequence[Path], target: Path, plans_name: str) -> tuple[Task, pd.DataFrame]:
    """Make a preprocessed dataset whose volumes are links to those of others, and draw its folds.

    Cases are renamed `{number of their dataset}-{case}`. A subject id stands for one person, also in several datasets;
    an image that occurs in several is taken once. Labels are kept where all datasets have the same task.

    Args:
        sources: folders of preprocessed datasets.
        target: the folder to make.
        plans_name: plans that all of them were preprocessed with.

    Returns:
        Task and table of the merged dataset.

    Raises:
        PathsError: the target exists, or a file of a source is missing.
        SettingsError: the sources were preprocessed differently.
        TableError: one image belongs to different subjects.
    """
    if target.exists():
        raise PathsError(f"{target} exists; choose another number or name, or delete it")
    plans = {source.name: _plans(source, plans_name) for source in sources}
    _check_alike(plans)
    _check_images({source.name: image_names_in(source / DATASET_FILE) for source in sources})
    tasks, tables = zip(*[read_dataset(source) for source in sources], strict=True)
    task = _common_task(tasks, target.name.partition("_")[2])
    columns = [*SHARED_COLUMNS, *([task.target] if task.target else [])]
    parts = [_rows(table, source.name, columns) for table, source in zip(tables, sources, strict=True)]
    subjects = _once(pd.concat(parts, ignore_index=True))
    with replacing_folder(target) as folder:
        identifier = _link_volumes(subjects, sources, folder, target, plans)
        merged = {**plans[sources[0].name], "dataset_name": target.name}
        merged["configurations"][CONFIGURATION]["data_identifier"] = identifier
        write_json(merged, plans_file(folder, plans_name))
        description = read_object(sources[0] / "dataset.json")
        write_json(
            {**description, "numTraining": len(subjects), BLOCK: to_json(task)},
            folder / "dataset.json",
        )
        fingerprints = {source.name: read_object(source / "dataset_fingerprint.json") for source in sources}
        write_json({"merged_from": fingerprints}, folder / "dataset_fingerprint.json")
        write_subjects(subjects.drop(columns=["volume"]), folder / SUBJECTS_FILE)
        ensure_splits(folder, subjects, task)  # with the rest, so that the dataset is there whole or not at all
    return task, subjects


def _plans(source: Path, plans_name: str) -> dict:
    path = plans_file(source, plans_name)
    require_file(path, f"make it with adnext_plan_and_preprocess -d {source.name}")
    plans = read_plans(path)
    if plan_of(plans, CONFIGURATION, str(path)).prepared_by != "adnext":
        raise SettingsError(f"{path} was not made by adnext_plan_and_preprocess; only its datasets can be merged")
    return plans


def _check_alike(plans: dict[str, dict]) -> None:
    settings = {
        name: to_json(plan_of(content, CONFIGURATION, f"plans of {name}").preprocessing)
        for name, content in plans.items()
    }
    first, *others = settings
    for other in others:
        for key in {**settings[first], **settings[other]}:
            value, other_value = settings[first].get(key), settings[other].get(key)
            if other_value != value:
                raise SettingsError(
                    f"{first} was preprocessed with {key} = {value}, {other} with {other_value}; preprocess "
                    "them alike (adnext_plan_and_preprocess --preset)"
                )


def _check_images(names: dict[str, tuple[str, ...]]) -> None:
    first, *others = names
    for other in others:
        own, others_own = names[first], names[other]
        if own != others_own and max(len(own), len(others_own)) > 1:  # what one image is called is no matter
            raise SettingsError(
                f"cases of {first} have the images {', '.join(own)}, those of {other} {', '.join(others_own)}; import "
                "them with the same channels"
            )


def _common_task(tasks: Sequence[Task], name: str) -> Task:
    first = tasks[0]
    if all((task.kind, task.target, task.classes) == (first.kind, first.target, first.classes) for task in tasks):
        return Task(
            name=name, kind=first.kind, target=first.target, derived_from=first.derived_from, classes=first.classes
        )
    return Task(name=name, kind="unlabelled")


def _rows(table: pd.DataFrame, dataset: str, columns: Sequence[str]) -> pd.DataFrame:
    number = dataset.removeprefix("Dataset").partition("_")[0]
    rows = table[[column for column in columns if column in table]].copy()
    return rows.assign(
        case_id=[f"{number}-{case}" for case in table["case_id"]], dataset=dataset, volume=table["case_id"]
    )


def _once(subjects: pd.DataFrame) -> pd.DataFrame:
    if "image_sha256" not in subjects:
        return subjects
    known = subjects[subjects["image_sha256"].notna() & (subjects["image_sha256"] != "")]
    for _, rows in known.groupby("image_sha256"):
        if rows["subject_id"].nunique() > 1:
            raise TableError(
                f"one image is subject {rows['subject_id'].iloc[0]!r} in {rows['dataset'].iloc[0]} and subject "
                f"{rows['subject_id'].iloc[-1]!r} in {rows['dataset'].iloc[-1]}; correct their ids"
            )
    return subjects.drop(index=known.index[known["image_sha256"].duplicated()]).reset_index(drop=True)


def _link_volumes(
    subjects: pd.DataFrame, sources: Sequence[Path], folder: Path, target: Path, plans: dict[str, dict]
) -> str:
    """Link the volumes from `folder`, which will become `target`; return the name of the folder inside."""
    folders = {
        source.name: source / data_identifier(plans[source.name]["configurations"][CONFIGURATION], source.name)
        for source in sources
    }
    identifier = folders[sources[0].name].name
    (folder / identifier).mkdir()
    for case, dataset, volume in zip(subjects["case_id"], subjects["dataset"], subjects["volume"], strict=True):
        for suffix in (".b2nd", ".pkl"):
            original = folders[dataset] / f"{volume}{suffix}"
            require_file(original, f"run adnext_plan_and_preprocess -d {dataset}")
            # relative, so that the folder of all datasets can be moved
            link = folder / identifier / f"{case}{suffix}"
            relative = os.path.relpath(without_links(original), without_links(target) / identifier)
            link_or_copy(original, link, relative)
    return identifier
