"""Volumes of grey matter and fluid in regions of the brain, of all scans of a prepared dataset."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import SettingsError
from adnext_plugin.files import require_file
from adnext_plugin.paths import (
    CONFIGURATION,
    PLANS_NAME,
    REGIONS_FILE,
    dataset_folder_name,
    plans_file,
    preprocessed_dir,
    raw_dir,
)
from adnext_plugin.workflows.common import Tell, require_processes

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.preprocessing.anatomy.measure import MeasuredRegions, RegionsJob

SHEET = "regions.html"
FOLDER = "regions"  # of a preprocessed dataset: a record and a picture of each case, and the sheet
REMEDY = "run adnext_plan_and_preprocess"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A preprocessed dataset, by number or name; `atlas` and `labels`: regions of one's own, both or neither.

    `warp`: align brains by a warp after the affine way.
    """

    dataset: str
    plans: str = PLANS_NAME
    atlas: Path | None = None
    labels: Path | None = None
    warp: bool = False
    processes: int = field(default_factory=lambda: min(8, usable_cpus()))

    def __post_init__(self) -> None:
        if (self.atlas is None) != (self.labels is None):
            raise SettingsError("--atlas and --labels need each other: a file of numbers, and what each is called")
        require_processes(self.processes)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The table and the sheet (None where no case could be measured), new cases, and why some failed, by case id."""

    table_file: Path | None
    sheet: Path | None
    measured: int
    new: int
    failed: dict[str, str]


def measure_all(request: Request, tell: Tell) -> Result:
    """Measure every case, and write `regions.csv` beside the prepared data, and a sheet of pictures.

    Raises:
        PathsError: there is no such dataset, it is not preprocessed, or the disk is full.
        TableError: the table of labels is unusable.
        ImageError: the atlas is.
    """
    from adnext_plugin.csv_files import write_csv
    from adnext_plugin.errors import AdnextError, ImageError
    from adnext_plugin.parallel import for_each
    from adnext_plugin.preprocessing.anatomy.measure import measure_regions
    from adnext_plugin.preprocessing.anatomy.regions import regions_of_atlas
    from adnext_plugin.quality.picture_sheet import write_sheet

    dataset = dataset_folder_name(request.dataset, [preprocessed_dir()])
    folder = preprocessed_dir() / dataset
    if request.atlas is not None and request.labels is not None:  # a wrong one is to be found before the first scan
        regions_of_atlas(request.atlas, request.labels)
    jobs = _jobs(request, dataset, folder)
    found: dict[str, MeasuredRegions] = {}
    failed: dict[str, str] = {}
    for index, outcome in for_each(measure_regions, jobs, processes=request.processes, description="Regions"):
        if isinstance(outcome, ImageError):
            failed[jobs[index].case] = str(outcome)
        elif isinstance(outcome, AdnextError):  # a full disk, and whatever else concerns every case
            raise outcome
        else:
            found[jobs[index].case] = outcome
    new = sum(one.is_new for one in found.values())
    tell(f"Regions of {len(found)} cases measured, {len(found) - new} of them before; {len(failed)} failed")
    if not found:
        return Result(table_file=None, sheet=None, measured=0, new=0, failed=failed)
    table = _table(found)
    write_csv(table, folder / REGIONS_FILE)
    home = folder / FOLDER
    pictures = [home / f"{case}.jpg" for case in table["case_id"]]
    sheet = write_sheet("regions.html.j2", table, pictures, home / SHEET, dataset=dataset, failed=failed)
    return Result(table_file=folder / REGIONS_FILE, sheet=sheet, measured=len(found), new=new, failed=failed)


def _table(found: "dict[str, MeasuredRegions]") -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame([{"case_id": case, **found[case].numbers} for case in sorted(found)])


def _jobs(request: Request, dataset: str, folder: Path) -> "list[RegionsJob]":
    from adnext_plugin.case_properties import read_case_properties
    from adnext_plugin.channel_files import channel_file
    from adnext_plugin.errors import PathsError
    from adnext_plugin.plan import folder_of_volumes
    from adnext_plugin.preprocessing.anatomy.measure import RegionsJob
    from adnext_plugin.stored_volumes import properties_file
    from adnext_plugin.subjects import read_dataset

    plans = require_file(plans_file(folder, request.plans), f"{REMEDY} -d {dataset}")
    data = folder_of_volumes(folder, plans, CONFIGURATION)
    _, subjects = read_dataset(folder)
    images = raw_dir() / dataset / "imagesTr"
    common: dict[str, Any] = {
        "folder": folder / FOLDER,
        "atlas": request.atlas,
        "labels": request.labels,
        "warp": request.warp,
    }
    jobs = []
    for case in sorted(subjects["case_id"]):
        try:
            mask = read_case_properties(properties_file(data, case)).mask
        except PathsError:  # it could not be prepared; that it is missing is said of its mask, if it needs one
            mask = None
        jobs.append(
            RegionsJob(case=case, image=channel_file(images, case), mask=None if mask is None else Path(mask), **common)
        )
    return jobs
