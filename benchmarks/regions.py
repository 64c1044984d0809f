"""What volumes of regions say on OASIS-1: AD against normal (60 and older), nWBV, and what they cost.

    python benchmarks/regions.py --work DIR        # some ten minutes on one core

The folds are those of `oasis_ad.py`. The 18 volumes of the medial temporal lobes were named beforehand
(docs/anatomy.md). Every model is fitted on `train` alone, with its penalty from inside it. An interrupted run continues
when the same command is given again. Prints and writes JSON.
"""

import argparse
import json
import os
import time
from itertools import islice
from pathlib import Path

import pandas as pd
from oasis_ad import TASKS, import_task
from pipeline import dataset_folder, run_command, use_folders

from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.studies.baselines import Baseline, covariates, cross_validate, regions
from adnext_plugin.evaluation.subjects.predictions import per_subject
from adnext_plugin.evaluation.uncertainty.bootstrap import Estimate
from adnext_plugin.evaluation.uncertainty.intervals import estimates, gain, resamples_of
from adnext_plugin.preprocessing.anatomy.measure import RegionsJob, measure_regions
from adnext_plugin.training.provenance import provenance
from adnext_plugin.workflows.baselines import region_columns

RESULT = Path(__file__).parent / "results" / "regions.json"
PRESET = Path(__file__).parent / "oasis_coarse_plan.json"
TIMED_SCANS = 8


def main() -> None:
    """Measure what is not measured yet, and score every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for nnU-Net's three folders")
    work = parser.parse_args().work.absolute()
    use_folders(work)
    number, name, _ = TASKS["ad"]
    dataset = dataset_folder(number, name)
    if not (work / "nnUNet_raw" / dataset).is_dir():
        import_task("ad", work)
    run_command("adnext_plan_and_preprocess", "-d", str(number), "--preset", str(PRESET))
    run_command("adnext_regions", "-d", str(number), accepted=(0, 2))
    cohort = Cohort.open(work / "nnUNet_preprocessed" / dataset)
    measured = cohort.subjects.dropna(subset=["brain_share"])
    report = {
        "made_by": provenance(),
        "hardware": {"cpus": os.cpu_count()},
        "people": len(cohort.subjects),
        "not_measured": sorted(set(cohort.subjects["case_id"]) - set(measured["case_id"])),
        "correlation_of_brain_share_and_nWBV": float(measured["brain_share"].corr(pd.to_numeric(measured["nWBV"]))),
        "processor_seconds_a_scan": _seconds(work / "nnUNet_raw" / dataset / "imagesTr", work / "timed"),
        "models": _score(cohort),
    }
    text = json.dumps(report, indent=1)
    print(text)
    RESULT.write_text(text + "\n")


def _score(cohort: Cohort) -> dict:
    columns = region_columns(cohort.subjects)
    hippocampus = [name for name in columns if name.startswith("hippocampus")]
    models = [
        covariates(cohort, ["age", "sex"]),
        covariates(cohort, ["age", "sex", "brain_share"]),
        covariates(cohort, ["age", "sex", "nWBV"]),
        regions(cohort, hippocampus, ["age", "sex"]),
        regions(cohort, columns, ["age", "sex"]),
    ]
    names = [f"hippocampus ({len(hippocampus)})+age+sex", f"medial temporal ({len(columns)})+age+sex"]
    people = [per_subject(cross_validate(model, cohort), cohort.task) for model in models]
    reference, drawn = people[2], resamples_of(people[2])
    return {
        name: {
            "auc_mean_of_folds": _numbers(estimates(it, drawn)["auc_mean_of_folds"]),
            "less_age_sex_nWBV": None if it is reference else _numbers(gain(it, reference, drawn)),
        }
        for name, it in zip([*_names(models[:3]), *names], people, strict=True)
    }


def _names(models: list[Baseline]) -> list[str]:
    return [model.name for model in models]


def _numbers(estimate: Estimate) -> dict:
    return {"value": estimate.value, "interval": [estimate.low, estimate.high]}


def _seconds(images: Path, folder: Path) -> dict:
    """Of scans that lie in MNI152 space, one process; the first, which also loads the template, is left out."""
    seconds = []
    for path in islice(sorted(images.glob("*.nii.gz")), TIMED_SCANS + 1):
        for made in folder.glob("*"):
            made.unlink()
        started = time.process_time()
        measure_regions(RegionsJob(case="timed", image=path, mask=None, folder=folder))
        seconds.append(time.process_time() - started)
    return {"scans": TIMED_SCANS, "median": float(pd.Series(seconds[1:]).median()), "most": max(seconds[1:])}


if __name__ == "__main__":
    main()
