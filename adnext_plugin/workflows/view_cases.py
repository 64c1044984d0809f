"""What there is to view: a scan, the held-out people of a run, or scans that `adnext_predict` has predicted."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import AdnextError, PathsError, UnknownNameError, nearest_names
from adnext_plugin.files import require_file
from adnext_plugin.names import require_file_name
from adnext_plugin.paths import plans_file, preprocessed_dir, raw_dir, without_links
from adnext_plugin.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.viewer.cases import Viewed, ViewedCase

PREDICTIONS, DETAILS = "predictions.csv", "predictions.json"
TEXTS = ("case_id", "subject_id", "session_id", "target", "file", "called", "warnings", "error")
# columns of predictions that are told of a case, with what they are called
WORDS = {
    "target": "true",
    "called": "called",
    "prediction": "predicted",
    "spread": "spread over networks",
    "threshold": "called so from",
    "fold": "held out in fold",
    "warnings": "warnings",
    "error": "not predicted",
}


def cases_of(place: Path, masks: Sequence[Path], maps: Sequence[Path]) -> "Viewed":
    """All cases of a scan, of a run's folder or of a folder of predictions.

    Args:
        place: of them.
        masks, maps: files that lie over the scan, where it is one.

    Raises:
        PathsError: it is none of them, or files are missing.
        ImageError: the scan cannot be read.
    """
    if place.is_file():
        return _of_scan(place, masks, maps)
    if masks or maps:
        raise PathsError(f"--mask and --map lie over a scan, and {place} is no file")
    if (place / PREDICTIONS).is_file() and (place / DETAILS).is_file():
        return _of_predictions(place)
    run = RunFolder(without_links(place))
    if run.plans_file.is_file():
        return _of_run(run)
    raise PathsError(
        f"{place} is neither a scan nor the folder of a run (TRAINER__PLANS__CONFIGURATION) or of adnext_predict; "
        "check the path"
    )


def only(viewed: "Viewed", names: Sequence[str]) -> "Viewed":
    """Some of the cases, in the order of their names as given.

    Raises:
        UnknownNameError: there is no such case.
    """
    from dataclasses import replace

    known = {case.name: case for case in viewed.cases}
    for name in names:
        if name not in known:
            raise UnknownNameError(f"--cases {name}: there is no such case{nearest_names(name, known)}")
    return replace(viewed, cases=tuple(known[name] for name in dict.fromkeys(names)))


def _of_scan(scan: Path, masks: Sequence[Path], maps: Sequence[Path]) -> "Viewed":
    from adnext_plugin.images import read_volume
    from adnext_plugin.viewer.cases import Layer, Viewed, ViewedCase

    layers = [Layer(name="scan", kind="scan", file=scan)]
    layers += [Layer(name=f"mask {file.name}", kind="mask", file=file) for file in masks]
    layers += [Layer(name=f"map {file.name}", kind="map", file=file) for file in maps]
    for layer in layers:
        read_volume(layer.file)  # whatever is wrong is said before a browser opens
    case = ViewedCase(name=scan.name, layers=tuple(layers))
    return Viewed(title=scan.name, sentences=(), cases=(case,))


def _of_run(run: RunFolder) -> "Viewed":
    from adnext_plugin.csv_files import read_csv
    from adnext_plugin.viewer.cases import Viewed

    path = require_file(run.evaluation.predictions_file, "evaluate the run first, by adnext_evaluate")
    table = read_csv(path, texts=TEXTS, needed=["case_id"], remedy="run adnext_evaluate again")
    dataset = run.path.parent.name
    cases = tuple(_of_held_out(row, run, dataset) for row in _rows(table))
    if not any(case.layers for case in cases):
        raise PathsError(f"{raw_dir() / dataset / 'imagesTr'} has no scan of this run; import the dataset again")
    sentences = ("Held-out people, each with the answer of the network that had not seen them.",)
    return Viewed(title=f"{dataset}, {run.trainer}", sentences=sentences, cases=cases)


def _of_held_out(row: dict[str, str], run: RunFolder, dataset: str) -> "ViewedCase":
    from adnext_plugin.channel_files import channel_file

    case = require_file_name(row["case_id"], "the name of a case")
    scan = channel_file(raw_dir() / dataset / "imagesTr", case)
    mask = _mask(run, dataset, case)
    return _case(row, case, scan, mask, sorted(run.explanations("").glob(f"*/{case}.nii.gz")))


def _of_predictions(folder: Path) -> "Viewed":
    from adnext_plugin.csv_files import read_csv
    from adnext_plugin.viewer.cases import Viewed

    remedy = "run adnext_predict again"
    table = read_csv(folder / PREDICTIONS, texts=TEXTS, needed=["case_id", "file"], remedy=remedy)
    if table.empty:
        raise PathsError(f"{folder / PREDICTIONS} has no scans; {remedy}")
    cases = []
    for row in _rows(table):
        found = folder / "explanations" / f"{row['case_id']}.nii.gz"
        cases.append(_case(row, row["case_id"], Path(row["file"]), None, [found] if found.is_file() else []))
    sentences = ("For research. The probabilities are calibrated for people like those trained on.",)
    return Viewed(title=f"Predictions in {folder.name}", sentences=sentences, cases=tuple(cases))


def _case(row: dict[str, str], name: str, scan: Path, mask: Path | None, maps: Sequence[Path]) -> "ViewedCase":
    from adnext_plugin.importing.image_files import is_image
    from adnext_plugin.viewer.cases import Layer, ViewedCase

    layers: list[Layer] = []
    missing = []
    if scan.is_file() and is_image(scan):
        layers.append(Layer(name="scan", kind="scan", file=scan))
        if mask is not None:
            layers.append(Layer(name="brain mask", kind="mask", file=mask))
        layers += [Layer(name=f"map {file.parent.name}", kind="map", file=file) for file in maps]
    else:
        missing.append(f"The scan is not there: {scan}" if not scan.is_file() else f"{scan} is no scan to look at")
    return ViewedCase(name=name, layers=tuple(layers), said=tuple(_said(row)), missing=tuple(missing))


def _rows(table: "pd.DataFrame") -> Iterator[dict[str, str]]:
    """Cells as texts, "" where there is none."""
    for row in table.to_dict("records"):
        yield {str(name): "" if value != value or value is None else str(value) for name, value in row.items()}


def _said(row: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in row.items():
        label = f"probability of {name.removeprefix('prob_')}" if name.startswith("prob_") else WORDS.get(name)
        if label and value:
            yield label, value if name in TEXTS or name == "fold" else f"{float(value):.3g}"


def _mask(run: RunFolder, dataset: str, case: str) -> Path | None:
    """The brain of a scan, where it had to be found and its mask is still there."""
    from adnext_plugin.case_properties import read_case_properties
    from adnext_plugin.plan import folder_of_volumes
    from adnext_plugin.stored_volumes import properties_file

    try:
        plans = plans_file(preprocessed_dir() / dataset, run.plans)
        images = folder_of_volumes(plans.parent, plans, run.configuration)
        mask = read_case_properties(properties_file(images, case)).mask
    except AdnextError:
        return None
    return Path(mask) if mask is not None and Path(mask).is_file() else None
