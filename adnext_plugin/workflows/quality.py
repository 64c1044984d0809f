"""A look at all prepared cases of a dataset: a contact sheet, a table, and those that stand out."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import SettingsError
from adnext_plugin.files import require_file
from adnext_plugin.paths import (
    CONFIGURATION,
    PLANS_NAME,
    QUALITY_FOLDER,
    dataset_folder_name,
    plans_file,
    preprocessed_dir,
    raw_dir,
)
from adnext_plugin.plan import folder_of_volumes
from adnext_plugin.workflows.common import Tell, require_processes

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.quality.measurements import QualityJob


@dataclass(frozen=True, kw_only=True)
class Request:
    """A preprocessed dataset, by number or name; `top`: suspicious cases to tell of at most."""

    dataset: str
    plans: str = PLANS_NAME
    top: int = 20
    processes: int = field(default_factory=lambda: min(8, usable_cpus()))

    def __post_init__(self) -> None:
        if self.top < 0:
            raise SettingsError(f"--top must be at least 0, got {self.top}")
        require_processes(self.processes)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The files written (None where no case could be measured), and why some cases could not be, by case id.

    `table` has a row per measured case, the most suspicious first.
    """

    table: "pd.DataFrame | None"
    sheet: Path | None
    table_file: Path | None
    failed: dict[str, str]


def look_at_cases(request: Request, tell: Tell) -> Result:
    """Measure every prepared case, and write the contact sheet and the table of a dataset.

    Raises:
        PathsError: there is no such dataset, or it is not preprocessed.
    """
    from adnext_plugin.parallel import for_each
    from adnext_plugin.quality.measurements import Measurements, measure_case
    from adnext_plugin.quality.sheet import write_report
    from adnext_plugin.quality.suspicion import find_suspicious
    from adnext_plugin.subjects import read_dataset

    dataset = dataset_folder_name(request.dataset, [preprocessed_dir()])
    folder = preprocessed_dir() / dataset
    plans = require_file(plans_file(folder, request.plans), f"run adnext_plan_and_preprocess -d {dataset}")
    data = folder_of_volumes(folder, plans, CONFIGURATION)
    task, subjects = read_dataset(folder)
    jobs = _jobs(dataset, data, subjects)
    found = dict(for_each(measure_case, jobs, processes=request.processes, description="Quality"))
    outcomes = [found[index] for index in range(len(jobs))]
    cases = [outcome for outcome in outcomes if isinstance(outcome, Measurements)]
    failed = {
        job.case: str(outcome)
        for job, outcome in zip(jobs, outcomes, strict=True)
        if not isinstance(outcome, Measurements)
    }
    if not cases:
        return Result(table=None, sheet=None, table_file=None, failed=failed)
    table = find_suspicious(cases, dict(zip(subjects["case_id"], subjects["subject_id"], strict=True)))
    sheet, table_file = write_report(table, cases, subjects, task, folder / QUALITY_FOLDER)
    suspicious = table[table["suspicion"] > 0]
    tell(
        f"{len(suspicious)} of {len(table)} cases of {dataset} stand out; the {min(request.top, len(suspicious))} most"
    )
    for case, reasons in suspicious.head(request.top)[["case_id", "reasons"]].itertuples(index=False):
        tell(f"  {case}: {reasons}")
    return Result(table=table, sheet=sheet, table_file=table_file, failed=failed)


def _jobs(dataset: str, data: Path, subjects: "pd.DataFrame") -> "list[QualityJob]":
    from adnext_plugin.channel_files import channel_file
    from adnext_plugin.quality.measurements import QualityJob

    scans = raw_dir() / dataset / "imagesTr"
    return [QualityJob(case=case, folder=data, scan=channel_file(scans, case)) for case in sorted(subjects["case_id"])]
