"""Datasets in a Python program: import scans, and prepare them."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.choices import CapsPipeline, DateOrder, MissingChannel, SessionChoice
from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import ImageError
from adnext_plugin.paths import PLANS_NAME
from adnext_plugin.workflows import import_dataset as importing
from adnext_plugin.workflows import plan_and_preprocess as planning
from adnext_plugin.workflows.import_source import SourceChoice, TargetChoice

if TYPE_CHECKING:
    from adnext_plugin.plan import Plan

PathLikes = str | PathLike[str]


def import_dataset(
    number: int,
    name: str,
    *,
    table: PathLikes | None = None,
    bids: PathLikes | None = None,
    caps: PathLikes | None = None,
    loni: PathLikes | None = None,
    images: PathLikes | None = None,
    image_pattern: str | None = None,
    suffix: str = "T1w",
    channels: Mapping[str, str] | None = None,
    missing_channel: MissingChannel = "refuse",
    coregister: bool = False,
    derivative: str | None = None,
    entities: Mapping[str, str] | None = None,
    caps_pipeline: CapsPipeline = "t1-linear",
    clinical: Sequence[PathLikes] = (),
    max_days: int | None = None,
    columns: Mapping[str, str] | None = None,
    missing: Sequence[str] = (),
    date_order: DateOrder | None = None,
    covariate_map: Mapping[str, Mapping[str, str]] | None = None,
    target: str | None = None,
    classes: Mapping[str, Sequence[str]] | None = None,
    positive: str | None = None,
    target_bins: Sequence[str] | None = None,
    from_cdr: str | None = None,
    regress: str | None = None,
    unlabelled: bool = False,
    where: Sequence[str] = (),
    session: SessionChoice = "all",
    keep: Sequence[str] = (),
    skip_unlabelled: bool = False,
    exclude: PathLikes | None = None,
    extra_ids: PathLikes | None = None,
    accept: Sequence[str] = (),
    copy: bool = False,
    with_masks: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    processes: int | None = None,
    tell: Callable[[str], None] = print,
) -> importing.Result:
    """Turn scans and their tables into `nnUNet_raw/DatasetNNN_Name`, as `adnext_import` does.

    Args:
        number, name: of the dataset, for example 101 and "AD".
        table: CSV, TSV or XLSX file, a row per scan.
        bids, caps, loni: instead, the root of a BIDS tree, of Clinica's CAPS folder, or LONI's list of images.
        images: folder that the paths of a table or of LONI's list start from.
        image_pattern: path of a row's image, for example "images/{ID}.nii.gz".
        suffix, derivative, entities: which images of a BIDS tree; entities such as `{"acq": "mprage"}`.
        channels: several images of a session, name to where they are, the first T1-weighted, for example `{"T1": "T1w",
            "FLAIR": "FLAIR"}`: ends of BIDS names, columns or patterns of a table, parts of LONI's Description.
        missing_channel: "refuse" scans that lack an image, "leave-out" such scans, or put "zero" in its place.
        coregister: move the further images of a session to the first.
        caps_pipeline: which images of a CAPS folder, "t1-linear" or "t1-volume".
        clinical: further tables, joined by subject and session; with `max_days`, by time.
        columns: columns by role (file, subject, session, date, age, sex, site), where they have no usual name.
        missing: cells that mean "not known", of all columns, "-9", or of one, "age=999".
        date_order: "day-first" or "month-first", where no date of a column tells.
        covariate_map: what cells of a column stand for, for example `{"sex": {"w": "F", "D": ""}}`.
        target: column of the class, or "age".
        classes: class to values of that column, for example `{"CN": ["CN", "SMC"], "AD": ["AD"]}`; the last of two
            classes is the positive one.
        positive: of two classes the one that is looked for, where their names do not tell.
        target_bins, from_cdr, regress, unlabelled: instead of a target, a column with bins, `["age", "<40=young",
            ">=60=old"]`; the CDR's column; a column of numbers to predict; nothing, for pre-training.
        where: conditions that rows must meet, for example `["age>=60"]`.
        session: of each subject all scans, the first in time, or the nearest to a clinical visit.
        keep: further columns of numbers for `subjects.csv`.
        skip_unlabelled: leave scans without a label out, which is else an error.
        exclude: CSV file of people or sessions to leave out, as `quality.html` saves it.
        extra_ids: CSV file with rows of ids that are one person, of which the first is used.
        accept: doubts about headers that you have looked into: "size", "orientation", "pixdim".
        copy: copy images instead of linking to them.
        with_masks: write foreground masks, for nnU-Net's own planning.
        overwrite: replace a dataset of this name.
        dry_run: check everything, write nothing.
        processes: how many images to check at once.
        tell: is given what the command would print.

    Returns:
        The dataset's folder, task, number of cases, and the report on what was left out.

    Raises:
        AdnextError: see `adnext_plugin.errors`; the message says what is wrong, where, and what to do.
    """
    request = importing.Request(
        number=number,
        name=name,
        source=SourceChoice(
            table=_path(table),
            bids=_path(bids),
            caps=_path(caps),
            loni=_path(loni),
            images=_path(images),
            image_pattern=image_pattern,
            suffix=suffix,
            derivative=derivative,
            entities=tuple(f"{key}={value}" for key, value in (entities or {}).items()),
            caps_pipeline=caps_pipeline,
            clinical=tuple(Path(path) for path in clinical),
            max_days=max_days,
            columns=columns or {},
            channels=tuple(f"{name}={where}" for name, where in (channels or {}).items()),
            missing=tuple(missing),
            date_order=date_order,
            covariate_map=tuple(
                (column, *(f"{cell}={value}" for cell, value in cells.items()))
                for column, cells in (covariate_map or {}).items()
            ),
        ),
        target=TargetChoice(
            target=target,
            from_cdr=from_cdr,
            target_bins=None if target_bins is None else tuple(target_bins),
            regress=regress,
            unlabelled=unlabelled,
            label_map=tuple(f"{','.join(values)}={name}" for name, values in (classes or {}).items()),
            positive=positive,
        ),
        where=tuple(where),
        session=session,
        missing_channel=missing_channel,
        coregister=coregister,
        keep=tuple(keep),
        skip_unlabelled=skip_unlabelled,
        exclude=_path(exclude),
        extra_ids=_path(extra_ids),
        accept=tuple(accept),
        copy=copy,
        with_masks=with_masks,
        overwrite=overwrite,
        dry_run=dry_run,
        processes=processes or min(8, usable_cpus()),
    )
    return importing.import_dataset(request, tell)


def plan_and_preprocess(
    dataset: str | int,
    *,
    preset: "str | PathLike[str] | Plan" = "default",
    plans: str = PLANS_NAME,
    splits: bool = True,
    folds: int | None = None,
    repeats: int | None = None,
    group_by: str | None = None,
    leave_one_out: bool = False,
    only_plan: bool = False,
    processes: int | None = None,
    executor: str = planning.PROCESSES,
    tell: Callable[[str], None] = print,
    **preprocessing: Any,
) -> planning.Result:
    """Plan a dataset, prepare its scans and draw its folds, as `adnext_plan_and_preprocess` does.

    Args:
        dataset: number or name.
        preset: a name, such as "default", "paper" or "t1_mni", a JSON file, or a `Plan`.
        plans: name of the plans file.
        splits: draw folds of subjects.
        folds: how many; 4 by default.
        repeats: of the cross-validation, each with the people dealt out anew.
        group_by: column of `subjects.csv`; people with one value of it are all on one side of a fold.
        leave_one_out: hold out each such group in a fold of its own.
        only_plan: prepare no scans.
        processes: how many scans at once.
        executor: "dask" or "dask://HOST:PORT" to prepare scans on a Dask cluster.
        tell: is given what the command would print.
        preprocessing: fields of `PreprocessingSettings` to use instead of the preset's, for example
            `input_size_voxels=(96, 112, 96)`, `spacing_mm=(2, 2, 2)`, both **z, y, x**, `brain_extraction="none"`.

    Returns:
        The preprocessed dataset's folder, its plans file, and which cases were prepared.

    Raises:
        ImageError: scans failed; the others are prepared, and are found finished next time.
        AdnextError: see `adnext_plugin.errors`; the message says what is wrong, where, and what to do.
    """
    from adnext_plugin.splits.drawing import Scheme

    request = planning.Request(
        dataset=str(dataset),
        preset=preset if not isinstance(preset, PathLike) else str(Path(preset)),
        preprocessing=preprocessing,
        plans=plans,
        processes=processes or min(8, usable_cpus()),
        only_plan=only_plan,
        splits=splits,
        scheme=Scheme.asked(folds=folds, repeats=repeats, group_by=group_by, leave_one_out=leave_one_out),
    )
    with planning.open_executor(executor, request.processes) as cluster:
        result = planning.plan_and_preprocess(request, tell, cluster)
    if result.failed:
        case, reason = min(result.failed.items())
        raise ImageError(f"{len(result.failed)} of {result.scans} cases failed, the first is {case}: {reason}")
    return result


def _path(path: PathLikes | None) -> Path | None:
    return None if path is None else Path(path)
