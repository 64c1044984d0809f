"""One self-contained page on an evaluated segmentation run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.errors import FormatError, PathsError
from adnext_plugin.files import read_json, read_object, replacing, require_file
from adnext_plugin.findings import Estimate
from adnext_plugin.paths import SEGMENTATION_BLOCK, raw_dir
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.workflows.evaluate_segmentation import DICE, read_table
from adnext_plugin.workflows.report import Request, Result
from adnext_plugin.workflows.segmentation_datasets import with_nnunets_plans

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.report.segmentation import ClassLine, ShownCase

PLACES = ("best", "median", "worst")
PLANNED = ("spacing", "patch_size", "batch_size", "normalization_schemes")


def report_segmentation(request: Request) -> Result:
    """Write the page on a run whose Dice `adnext_evaluate` has written.

    Raises:
        PathsError: there is no such dataset, or the run was not evaluated.
        FormatError: a file is none of what `adnext_evaluate` and `adnext_compare` write of segmentations.
    """
    from adnext_plugin.report.segmentation import SegmentationFacts, segmentation_html

    request = with_nnunets_plans(request)
    run, page = request.run, request.output or request.run.evaluation.report_file
    path = require_file(run.evaluation.dice_file, "evaluate the run first")
    found = DICE.content_of(read_object(path), str(path))
    lines, table = [*found["classes"]], read_table(run.evaluation)
    if found["mean_of_classes"] is not None:
        lines.append(found["mean_of_classes"])
    shown, not_shown = _three_cases(run, request.dataset_folder, lines[-1], table)
    facts = SegmentationFacts(
        dataset=found["dataset"],
        trainer=found["trainer"],
        warning=found["warning"],
        unit=found["unit"],
        resamples=found["resamples"],
        folds=found["folds"],
        missing_folds=found["missing_folds"],
        classes=[_line(one, table) for one in lines],
        shown=shown,
        not_shown=not_shown,
        made_by=_made_by(run),
        comparison=_comparison(request.comparison),
    )
    with replacing(page) as temporary:
        temporary.write_text(segmentation_html(facts), encoding="utf-8")
    return Result(page=page)


def _line(one: Mapping[str, Any], table: "pd.DataFrame") -> "ClassLine":
    from adnext_plugin.report.segmentation import ClassLine

    return ClassLine(
        name=one["name"],
        dice=table[_column(one["name"], table)].dropna().to_numpy(dtype=float),
        without=one["without"],
        people=one["people"],
        mean=Estimate(**one["mean"]),
        standard_deviation=one["standard_deviation"],
        median=one["median"],
    )


def _column(name: str, table: "pd.DataFrame") -> str:
    return f"dice_{name}" if f"dice_{name}" in table else "mean_dice"


def _three_cases(
    run: RunFolder, dataset_folder: Path, line: Mapping[str, Any], table: "pd.DataFrame"
) -> "tuple[list[ShownCase], list[str]]":
    """Those to look at, and why others cannot be."""
    shown: list[ShownCase] = []
    not_shown: list[str] = []
    for place in PLACES:
        named = line[f"{place}_case"]
        if named is None:
            not_shown.append(f"There is no {place} case: none has a Dice.")
            continue
        try:
            shown.append(_case(place, named["case_id"], run, dataset_folder, table))
        except PathsError:
            # a page that may be mailed names no folders
            not_shown.append(f"The {place} case cannot be shown: its image, ground truth or prediction is gone.")
    return shown, not_shown


def _case(place: str, case_id: str, run: RunFolder, dataset_folder: Path, table: "pd.DataFrame") -> "ShownCase":
    import numpy as np
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

    from adnext_plugin.report.segmentation import ShownCase

    dataset = read_object(run.dataset_file)
    row = table[table["case_id"] == case_id].iloc[0]
    called = require_file(run.path / str(row["prediction"]), "validate the fold again")
    ending = str(dataset["file_ending"])
    truth = require_file(dataset_folder / "gt_segmentations" / f"{case_id}{ending}", "prepare the dataset again")
    image = require_file(_image(dataset_folder.name, case_id, dataset), "restore the raw dataset")
    reader = determine_reader_writer_from_dataset_json(dataset, str(truth), verbose=False)()
    image_czyx, properties = reader.read_images([str(image)])
    spacing = tuple(float(one) for one in properties["spacing"])
    names = [column.removeprefix("dice_") for column in table if column.startswith("dice_")]
    dice = {name: float(row[f"dice_{name}"]) for name in names}
    labels = dataset["labels"]
    volumes = [np.asarray(reader.read_seg(str(path))[0][0]) for path in (truth, called)]
    return ShownCase(
        place=place,
        fold=int(row["fold"]),
        dice=dice,
        image_zyx=image_czyx[0],
        truth_zyx=volumes[0],
        called_zyx=volumes[1],
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        labels={name: labels[name] for name in names if isinstance(labels.get(name), int)},
    )


def _image(dataset: str, case_id: str, content: Mapping[str, Any]) -> Path:
    """A case's first channel in the raw dataset."""
    from adnext_plugin.channel_files import channel_file

    folder = raw_dir() / dataset
    listed = content.get("dataset")
    if isinstance(listed, Mapping) and case_id in listed:
        path = Path(listed[case_id]["images"][0])
        return path if path.is_absolute() else folder / path
    return channel_file(folder / "imagesTr", case_id, ending=content["file_ending"])


def _made_by(run: RunFolder) -> Sequence[tuple[str, str]]:
    rows = [("trainer", run.trainer), ("plans", run.plans), ("configuration", run.configuration)]
    if not run.plans_file.is_file():
        return rows
    planned = read_object(run.plans_file).get("configurations", {}).get(run.configuration, {})
    rows += [(name.replace("_", " "), json.dumps(planned[name])) for name in PLANNED if name in planned]
    block = planned.get(SEGMENTATION_BLOCK, {})
    network = block.get("network", {}).get("name") or planned.get("architecture", {}).get("network_class_name", "")
    rows.append(("network", str(network).rsplit(".", 1)[-1]))
    settings = block.get("settings", {})
    rows += [(f"setting {name}", json.dumps(_shown(name, value))) for name, value in settings.items()]
    return rows


def _shown(name: str, value: Any) -> Any:
    """Without folders of the machine that trained."""
    if name != "pretrained_weights" or not isinstance(value, str):
        return value
    return value.replace("\\", "/").rsplit("/", 1)[-1]


def _comparison(path: Path | None) -> Mapping | None:
    if path is None:
        return None
    content = read_json(path)
    pairs = content.get("pairs") if isinstance(content, Mapping) else None
    if not isinstance(pairs, list) or not all("classes" in pair for pair in pairs):
        raise FormatError(f"{path} compares no segmentations; give what adnext_compare --output wrote of this dataset")
    return content
