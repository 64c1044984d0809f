"""What a report shows of scans, and of the way from scans to cohort: read from the dataset's folders where they are."""

from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import AdnextError
from adnext_plugin.files import read_object
from adnext_plugin.paths import IMPORT_REPORT_FILE, QUALITY_FILE, QUALITY_FOLDER, raw_dir

if TYPE_CHECKING:
    import numpy as np

    from adnext_plugin.evaluation.subjects.fold_files import FoldFiles
    from adnext_plugin.report.brains import BrainPictures, SureCase

MOST_OF_A_MEAN = 50  # scans
MISSING = "No pictures of scans: a prepared volume is not there, or damaged."
# of an import report: what came in, and what did not, in the order in which it is decided
FLOW = {
    "scans_found": "scans found",
    "images_without_row": "images without a row",
    "rows_without_image": "rows without an image",
    "left_out_by_filter": "left out by a filter",
    "unlabelled": "without a label",
    "unused_images": "repeats and other images",
    "cases": "cases",
    "subjects": "subjects",
}


def brain_pictures(files: "FoldFiles", dataset_folder: Path, images: Path) -> "BrainPictures":
    """Mean brains of the classes, the scans that the network is most sure of, and how many stand out.

    Args:
        files: predictions of held-out scans.
        dataset_folder: the preprocessed dataset.
        images: its folder of prepared volumes.
    """
    from adnext_plugin.report.brains import BrainPictures

    flagged = _flagged(dataset_folder / QUALITY_FOLDER / QUALITY_FILE)
    try:
        return BrainPictures(means=_means(files, images), sure=_sure(files, images), flagged=flagged)
    except AdnextError:  # whose message names a case
        return BrainPictures(flagged=flagged, missing=MISSING)


def flow(dataset: str) -> tuple[str, ...]:
    """How many scans came in, and why others did not, as the import counted; nothing where that is not known."""
    try:
        report = read_object(raw_dir() / dataset / IMPORT_REPORT_FILE)
    except AdnextError:
        return ()
    counts = {key: _count(report.get(key)) for key in FLOW}
    return tuple(f"{count} {FLOW[key]}" for key, count in counts.items() if count)


def _count(value: object) -> int:
    if isinstance(value, dict):
        return sum(one for one in value.values() if isinstance(one, int))
    return len(value) if isinstance(value, list) else value if isinstance(value, int) else 0


def _flagged(path: Path) -> int | None:
    from adnext_plugin.csv_files import read_csv

    try:
        return int((read_csv(path, numbers=["suspicion"], remedy="run adnext_quality")["suspicion"] > 0).sum())
    except (AdnextError, KeyError):
        return None


def _means(files: "FoldFiles", images: Path) -> "tuple[tuple[str, int, np.ndarray], ...]":
    subjects, task = files.cohort.subjects, files.cohort.task
    groups = {name: subjects.loc[subjects[task.column] == name, "case_id"] for name in task.classes}
    found = []
    for name, cases in (groups or {"everybody": subjects["case_id"]}).items():
        chosen = sorted(cases)[:: max(1, -(-len(cases) // MOST_OF_A_MEAN))]
        if chosen:
            total = reduce(add, (_volume(images, case) for case in chosen))  # one volume at a time in memory
            found.append((name, len(chosen), total / len(chosen)))
    return tuple(found)


def _sure(files: "FoldFiles", images: Path) -> "tuple[SureCase, ...]":
    """Of each class the scan with the highest probability of the right answer, and of a wrong one."""
    from adnext_plugin.report.brains import SureCase

    classes = files.cohort.task.classes
    held_out = files.predictions[files.predictions["part"] == "val"]
    found = []
    for true in classes:
        rows = held_out[held_out["target"] == true]
        for called in (true, *(name for name in classes if name != true)):
            is_called = rows[[f"prob_{name}" for name in classes]].idxmax(axis=1) == f"prob_{called}"
            of_kind = rows[is_called].sort_values(f"prob_{called}", ascending=False)
            if len(of_kind):
                volume, best = _volume(images, of_kind["case_id"].iloc[0]), of_kind[f"prob_{called}"].iloc[0]
                found.append(SureCase(volume_zyx=volume, true=true, called=called, probability=float(best)))
    return tuple(found)


def _volume(images: Path, case: str) -> "np.ndarray":
    import numpy as np

    from adnext_plugin.stored_volumes import read_case

    image, _ = read_case(images, case)
    return (image if image.ndim == 3 else image[0]).astype(np.float32)
