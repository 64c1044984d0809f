"""What simple models reach on OASIS-1: AD against normal (60 and older), sex, and age of everyone normal.

    python benchmarks/simple_baselines.py --work DIR        # a few minutes after the import

The same folds and network inputs as in `oasis_ad.py` with `oasis_coarse_plan.json`: 48×56×48 voxels of 3.2 mm. Beside
the baselines of `adnext_evaluate` it gives the voxel baseline of versions up to 0.1.0 (40 to 50 whitened principal
components of 8 mm blocks), which earlier results were held against. Prints and writes JSON.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from oasis_ad import BASELINES, TASKS, import_task
from pipeline import dataset_folder, run_command, use_folders
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline

from adnext_plugin.cohort import Cohort
from adnext_plugin.data.store import CaseStore
from adnext_plugin.evaluation.studies.baselines import Baseline, covariates, cross_validate, voxels
from adnext_plugin.evaluation.subjects.predictions import per_subject
from adnext_plugin.evaluation.subjects.values import values_per_subject
from adnext_plugin.evaluation.uncertainty.intervals import estimates, resamples_of
from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "simple_baselines.json"
PRESET = Path(__file__).parent / "oasis_coarse_plan.json"
SPACING_MM, SIZE_VOXELS = (3.2, 3.2, 3.2), (48, 56, 48)
EARLIER_COMPONENTS, EARLIER_EDGE_VOXELS = 50, 2


def main() -> None:
    """Prepare what is not prepared yet, and score every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for nnU-Net's three folders")
    work = parser.parse_args().work.absolute()
    use_folders(work)
    tasks = {task: _score_task(task, work) for task in ("ad", "sex", "age")}
    text = json.dumps({"made_by": provenance(), "hardware": {"cpus": os.cpu_count()}, "tasks": tasks}, indent=1)
    print(text)
    RESULT.write_text(text + "\n")


def _score_task(task: str, work: Path) -> dict:
    number, name, _ = TASKS[task]
    dataset = dataset_folder(number, name)
    if not (work / "nnUNet_raw" / dataset).is_dir():
        import_task(task, work)
    run_command("adnext_plan_and_preprocess", "-d", str(number), "--preset", str(PRESET))
    cohort = Cohort.open(work / "nnUNet_preprocessed" / dataset)
    store = CaseStore(cohort.folder / "ADNeXtPlans_3d_fullres", cohort.subjects["case_id"].tolist(), SIZE_VOXELS)
    index = {case: position for position, case in enumerate(store.cases)}
    models = [covariates(cohort, columns.split(",")) for columns in BASELINES[task]]
    models += [voxels(cohort, lambda case: store[index[case]][0], SPACING_MM), _earlier(cohort, store)]
    return {"people": len(cohort.subjects), "models": {model.name: _score(model, cohort) for model in models}}


def _score(model: Baseline, cohort: Cohort) -> dict:
    started = time.process_time()
    table = cross_validate(model, cohort)
    seconds = time.process_time() - started
    is_number = cohort.task.kind == "regression"
    people = values_per_subject(table) if is_number else per_subject(table, cohort.task)
    score = "mae" if is_number else "auc_mean_of_folds"
    estimate = estimates(people, resamples_of(people))[score]
    return {score: estimate.value, "interval": [estimate.low, estimate.high], "processor_seconds": round(seconds, 1)}


def _earlier(cohort: Cohort, store: CaseStore) -> Baseline:
    """The voxel baseline of versions up to 0.1.0."""
    step = EARLIER_EDGE_VOXELS
    blocks = []
    for position in range(len(store.cases)):
        volume = np.asarray(store[position][0], np.float32)
        cut = volume[tuple(slice(size - size % step) for size in volume.shape)]
        split = [part for size in cut.shape for part in (size // step, step)]
        blocks.append(cut.reshape(split).mean(axis=(1, 3, 5)).ravel())
    if cohort.task.kind == "regression":
        model = RidgeCV(np.logspace(-2, 4, 13))
    else:
        model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    model = make_pipeline(PCA(EARLIER_COMPONENTS, whiten=True, svd_solver="full"), model)
    return Baseline(name="voxels (PCA, 8 mm), up to 0.1.0", model=model, features=np.stack(blocks))


if __name__ == "__main__":
    main()
