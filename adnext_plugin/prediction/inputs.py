"""What to predict: one scan, a folder, a table, a BIDS tree, a raw or a preprocessed dataset, as one list of scans."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from adnext_plugin.channel_files import channel_file
from adnext_plugin.csv_files import read_csv
from adnext_plugin.errors import PathsError, SettingsError
from adnext_plugin.files import not_fetched, read_object, require_file
from adnext_plugin.importing.channels import Channel, parse_channels
from adnext_plugin.importing.image_files import (
    DICOM_ADVICE,
    IMAGE_SUFFIXES,
    images_below,
    images_in,
    is_dicom,
    is_image,
    no_images,
)
from adnext_plugin.importing.inclusion import Choice, select_cases
from adnext_plugin.importing.scans import Source
from adnext_plugin.importing.sources.bids import BidsOptions, read_bids_source
from adnext_plugin.importing.sources.bids_names import BidsName, parse_entities
from adnext_plugin.importing.sources.table import TableOptions, read_table_source
from adnext_plugin.importing.tables.reading import TABLE_SUFFIXES
from adnext_plugin.paths import (
    BLOCK,
    DATASET_FILE,
    SUBJECTS_FILE,
    dataset_folder_name,
    plans_file,
    preprocessed_dir,
    without_links,
)
from adnext_plugin.people import person_of
from adnext_plugin.plan import configuration_of, data_identifier, plan_in, read_plans, require_same_preparation
from adnext_plugin.prediction.description import ModelDescription
from adnext_plugin.stored_volumes import VOLUME_SUFFIX, volume_file
from adnext_plugin.subjects import ID_COLUMNS
from adnext_plugin.task import task_of

IMPORTED = ("age", "sex", "site")  # covariates that importing finds by their usual names
BIDS_MARKS = ("participants.tsv", "dataset_description.json")
CHANNEL = "_0000"  # ends the names of nnU-Net's raw images
CHANNELS = re.compile(r"(.+)_\d{4}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class ScanInput:
    """One scan: a NIfTI file, or a stored volume of a preprocessed dataset.

    `further` are the other images of a model that takes several, in its order. `missing` says which there are not.
    """

    case_id: str
    image: Path
    subject_id: str = ""
    session_id: str = ""
    further: tuple[Path, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Scans, and what is known of each beside its image (rows in their order).

    `is_prepared`: they are stored volumes, with voxels of `stored_spacing_mm` (z, y, x). `left_out`: images and rows of
    the source that did not find each other, and further scans of one session.
    """

    scans: tuple[ScanInput, ...]
    columns: pd.DataFrame
    is_prepared: bool = False
    stored_spacing_mm: tuple[float, ...] | None = None
    left_out: tuple[str, ...] = ()


def read_inputs(
    path: str,
    model: ModelDescription,
    columns: Sequence[str],
    table_options: dict,
    bids_suffix: str,
    bids_entities: Sequence[str] = (),
    channels: Sequence[str] = (),
) -> Inputs:
    """Find the scans.

    Args:
        path: an image file; a stored volume of a preprocessed dataset; a .csv, .tsv or .xlsx table; a folder, which is
            taken for a BIDS tree if it has `participants.tsv` or `dataset_description.json`, for a preprocessed dataset
            if it has the model's plans, for a raw one if it has `imagesTr`, and is else searched for images, folders
            within it too; or number or name of a preprocessed dataset.
        model: what they are for.
        columns: that the model needs to know beside the scan.
        table_options: fields of `TableOptions`.
        bids_suffix: of the images in a BIDS tree.
        bids_entities: KEY=VALUE, of the images in a BIDS tree.
        channels: NAME=PATTERN, where a table or BIDS tree has the images of a model that takes several; by default
            they are columns, or suffixes, of the model's own names. Files are told apart by _0000, _0001, ...

    Raises:
        PathsError: nothing is there.
        TableError: the table is damaged.
        SettingsError: a needed column is missing, or a dataset is for another task or prepared otherwise.
    """
    entities = parse_entities(bids_entities)
    inputs = _read(path, model, columns, table_options, (bids_suffix, entities), _channels(model, channels))
    require_columns(inputs, columns, path)
    return inputs


def read_prepared(folder: Path, model: ModelDescription) -> Inputs:
    """The stored volumes of a preprocessed dataset, and what `subjects.csv` says of them, but for the answer.

    Raises:
        PathsError: the dataset was not preprocessed with the model's plans.
        SettingsError: it is for another task, or was prepared otherwise.
    """
    return _read_prepared(folder, model, None)


def _read_prepared(folder: Path, model: ModelDescription, only: str | None) -> Inputs:
    _refuse_other_task(folder, model)
    path = plans_file(folder, model.plans_name)
    require_file(path, "preprocess the dataset with the same preset as the one trained on")
    configuration = configuration_of(read_plans(path), model.configuration, str(path))
    require_same_preparation(plan_in(configuration, str(path)), model.plan, path)
    images = folder / data_identifier(configuration, str(path))
    stored = sorted(images.glob(f"*{VOLUME_SUFFIX}")) if only is None else [volume_file(images, only)]
    if not stored:
        raise PathsError(f"{images} has no prepared cases; run adnext_plan_and_preprocess -d {folder.name}")
    inputs = Inputs(
        scans=tuple(ScanInput(case_id=file.stem, image=file) for file in stored),
        columns=pd.DataFrame(index=[file.stem for file in stored]),
        is_prepared=True,
        stored_spacing_mm=tuple(configuration["spacing"]),
    )
    return _with_subjects(inputs, folder)


def require_columns(inputs: Inputs, columns: Sequence[str], where: str) -> None:
    """Make sure that everything is known of people that a model needs to know.

    Args:
        inputs: read from `where`.
        columns: that the model needs to know beside the scan.
        where: a path or dataset, for the message.

    Raises:
        SettingsError: a column is missing.
    """
    missing = [name for name in columns if name not in inputs.columns]
    if missing:
        raise SettingsError(
            f"the model needs to know {', '.join(columns)} of every person, but {where} does not say {missing[0]}; "
            "give a table or BIDS tree with such a column"
        )


def _read(
    path: str,
    model: ModelDescription,
    columns: Sequence[str],
    table_options: dict,
    of_bids: tuple[str, Mapping[str, str]],
    channels: tuple[Channel, ...],
) -> Inputs:
    place, names = Path(path), tuple(channel.name for channel in channels)
    if reason := not_fetched(place):
        raise PathsError(f"{place} {reason}")
    if place.is_file() and is_image(place):
        return of_files([place], place.parent, names)
    if place.is_file() and place.suffix.lower() in TABLE_SUFFIXES:
        source = read_table_source(TableOptions(table=place, channels=channels, **table_options))
        return _of_source(source, columns, source.rows_without_image, names)
    dataset = without_links(place).parent.parent
    if place.is_file() and place.suffix == VOLUME_SUFFIX and plans_file(dataset, model.plans_name).is_file():
        return _read_prepared(dataset, model, place.stem)
    if place.is_file() and is_dicom(place):
        raise PathsError(f"{place} is a DICOM file; {DICOM_ADVICE}")
    if place.is_file():
        raise PathsError(
            f"{place} is neither an image ({', '.join(IMAGE_SUFFIXES)}) nor a table ({', '.join(TABLE_SUFFIXES)})"
        )
    if bids_root(path) is not None:
        suffix, entities = of_bids
        options = BidsOptions(root=place, suffix=suffix, entities=entities)
        source = read_bids_source(options, channels)
        left_out = (*source.rows_without_image, *source.images_without_row)
        return _of_source(source, columns, left_out, names)
    if not place.is_dir():
        name = dataset_folder_name(path, [preprocessed_dir()]) if _may_be_dataset(path) else None
        if name is None:
            raise PathsError(f"{path} does not exist; give a scan, a folder, a table or a dataset")
        place = preprocessed_dir() / name
    if plans_file(place, model.plans_name).is_file():
        return read_prepared(place, model)
    if (place / "imagesTr").is_dir():
        return _of_raw(place, model)
    images = images_below(place)
    if not images:
        raise no_images(place, f"({', '.join(IMAGE_SUFFIXES)}) in it or in folders within")
    return of_files(images, place, names)


def _channels(model: ModelDescription, given: Sequence[str]) -> tuple[Channel, ...]:
    """What a model's images are called and found by, in its order; nothing of a model of one image.

    Raises:
        SettingsError: others were given.
    """
    names = model.images or ()
    channels = {channel.name: channel for channel in parse_channels(given)}
    if channels and set(channels) != set(names):
        raise SettingsError(
            f"--channel {', '.join(channels)}: the model takes {', '.join(names) or 'one image, by --suffix'}"
        )
    return tuple(channels.get(name, Channel(name=name, where=name)) for name in names)


def bids_root(path: str) -> Path | None:
    """The root of the BIDS tree that an input is; None for any other."""
    place = Path(path)
    return place if any((place / name).is_file() for name in BIDS_MARKS) else None


def _may_be_dataset(path: str) -> bool:
    return path.isdigit() or path.startswith("Dataset")


def of_files(images: Sequence[Path], root: Path, channels: Sequence[str] = ()) -> Inputs:
    """Images, called by their paths from `root` on, without the ending where that tells them apart.

    Args:
        images: files.
        root: that all of them are in.
        channels: what the images of a case are called, of a model that takes several: files `x_0000`, `x_0001`, ... are
            those of x.
    """
    if channels:
        images = _first_of_each(images)
    names = [image.relative_to(root).as_posix() for image in images]
    short = [_without_suffix(name) for name in names]
    times = Counter(short)
    # two files that differ in their ending alone keep it
    cases = [one if times[one] == 1 else name for one, name in zip(short, names, strict=True)]
    scans = tuple(with_further(_named(case, image), channels) for case, image in zip(cases, images, strict=True))
    return Inputs(scans=scans, columns=pd.DataFrame(index=cases))


def with_further(scan: ScanInput, channels: Sequence[str]) -> ScanInput:
    """The scan with the images beside it, `x_0001` and so on beside `x_0000`, as far as they are there."""
    if not channels:
        return scan
    files = _files_of_case(scan.image, len(channels))
    missing = tuple(name for name, file in zip(channels, files, strict=True) if not file.is_file())
    return replace(scan, image=files[0], further=files[1:], missing=missing)


def _first_of_each(images: Sequence[Path]) -> list[Path]:
    """The first image of each case of which there is any, whether that one is there or not."""
    return list(dict.fromkeys(_files_of_case(image, 1)[0] for image in images))


def _files_of_case(image: Path, channels: int) -> tuple[Path, ...]:
    """Where nnU-Net has all images of the case that one is of; without a number it is the first, and alone."""
    suffix = next(suffix for suffix in IMAGE_SUFFIXES if image.name.lower().endswith(suffix))
    stem, ending = image.name[: -len(suffix)], image.name[-len(suffix) :]
    numbered = CHANNELS.fullmatch(stem)
    case = numbered[1] if numbered else stem
    first, *others = (channel_file(image.parent, case, place, ending) for place in range(channels))
    return (first if numbered else image, *others)


def _named(case: str, image: Path) -> ScanInput:
    """A scan whose person and session are those of its name, as far as that says who they are."""
    entities = BidsName.of(image).entities
    subject = f"sub-{entities['sub']}" if entities.get("sub") else ""
    if not subject and not person_of(case).startswith(("name:", "number:")):
        subject = Path(case).name  # in the style of a study
    return ScanInput(case_id=case, image=image, subject_id=subject, session_id=entities.get("ses", ""))


def _without_suffix(name: str) -> str:
    suffix = next(suffix for suffix in IMAGE_SUFFIXES if name.lower().endswith(suffix))
    return name[: -len(suffix)].removesuffix(CHANNEL)


def _of_source(source: Source, columns: Sequence[str], left_out: Sequence[str], channels: Sequence[str] = ()) -> Inputs:
    # what the table lacks is said by the caller in the model's words
    kept = [name for name in columns if name not in IMPORTED and all(name in scan.row for scan in source.scans)]
    # scans that lack an image are named with the others that fail
    selection = select_cases(source, None, Choice(keep=kept, may_have_two_ids=True, missing_channel="zero"))
    cases = selection.cases
    scans = tuple(
        ScanInput(
            case_id=case.case_id,
            image=case.scan.image,
            subject_id=case.subject_id,
            session_id=case.scan.session_id,
            further=tuple(image for image in case.scan.further if image is not None),
            missing=tuple(name for name, image in zip(channels[1:], case.scan.further, strict=True) if image is None),
        )
        for case in cases
    )
    known = pd.DataFrame([case.covariates for case in cases], index=[case.case_id for case in cases])
    return Inputs(scans=scans, columns=known, left_out=(*left_out, *source.unused_images, *selection.unused_images))


def _of_raw(folder: Path, model: ModelDescription) -> Inputs:
    _refuse_other_task(folder, model)
    images = images_in(folder / "imagesTr")
    return _with_subjects(of_files(images, folder / "imagesTr", model.images or ()), folder)


def _with_subjects(inputs: Inputs, folder: Path) -> Inputs:
    """Add what `subjects.csv` says, but for the answer."""
    path = folder / SUBJECTS_FILE
    if not path.is_file():
        return inputs
    texts = (*ID_COLUMNS, "sex", "site")
    table = read_csv(path, texts=texts, needed=ID_COLUMNS, remedy="import the dataset again")
    table = table.drop_duplicates("case_id").set_index("case_id").reindex([scan.case_id for scan in inputs.scans])
    scans = tuple(
        replace(
            scan,
            subject_id=_text(table["subject_id"].iloc[index]),
            session_id=_text(table["session_id"].iloc[index]),
        )
        for index, scan in enumerate(inputs.scans)
    )
    return replace(inputs, scans=scans, columns=table)


def _text(cell: object) -> str:
    return cell if isinstance(cell, str) else ""


def _refuse_other_task(folder: Path, model: ModelDescription) -> None:
    path = folder / DATASET_FILE
    content = read_object(path) if path.is_file() else {}
    if BLOCK not in content:  # of nnU-Net's own planning
        return
    task = task_of(content, str(path))
    own = model.plan.known_task
    if task.kind != "unlabelled" and (task.kind, task.classes) != (own.kind, own.classes):
        raise SettingsError(
            f"{folder.name} is for {task.in_words}, but the model for {own.in_words}; give scans without classes (a "
            "folder), or a dataset with the same classes in the same order"
        )
