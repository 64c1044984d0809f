"""AD against normal (60 and older) on OASIS-1: simple models, linear models and networks on the same folds.

    python benchmarks/oasis_leaderboard.py --work DIR [--rows NAME ...]
    python benchmarks/oasis_leaderboard.py --work DIR --rated --rows "regions (hippocampal fluid)+age+sex"
    python benchmarks/oasis_leaderboard.py --work DIR --task sex --rows "linear, T1" "linear, modulated grey matter"

The folds are those of `oasis_ad.py`. Everything is made by the commands a user types: import, plan, regions, train,
evaluate. Each row has the AUC as mean of folds with its interval over people, of every seed where seeds matter and of
their mean prediction, and the paired difference from age, sex and nWBV. What the rows learn from and how was decided
on training folds; `benchmarks/results/anatomy_study.json` has what was tried. Rows that are done are not made again;
those that were not asked for stay as the file has them. The scans are those described in the data's own README;
ADNEXT_TEST_DATA names their folder.

With --task sex or age it is the sex of all people, or the age of those without dementia, by linear models of the same
channels, without columns beside them, and without a scan that lacks a part of the brain. Paired differences are then
from age+eTIV+nWBV, or from sex+nWBV.

With --rated it is everybody whom clinicians rated, of any age, in five folds: the cohort and the protocol of arXiv
2603.17304, as far as its people are here. Age alone tells much there, since nobody under 60 has AD.
"""

import argparse
import json
import os
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import anatomy_arms
import pandas as pd
from oasis_ad import DEFAULT_DATA, FIRST_SESSIONS, HALF_A_BRAIN, TASKS, import_task, oasis_table
from pipeline import dataset_folder, run_command, set_options, use_folders

from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.studies.baselines import covariates, cross_validate, regions
from adnext_plugin.evaluation.studies.crossval import of_subjects
from adnext_plugin.evaluation.subjects.values import OfSubjects, SubjectValues
from adnext_plugin.evaluation.uncertainty.bootstrap import Estimate
from adnext_plugin.evaluation.uncertainty.intervals import estimates, gain, resamples_of
from adnext_plugin.paths import PLANS_NAME, REGION_VOLUME, run_name
from adnext_plugin.preprocessing.anatomy.regions import medial_temporal_volumes
from adnext_plugin.run_folder import RunFolder, seed_runs
from adnext_plugin.trainers.linear import REGIONS_OF_AD
from adnext_plugin.training.provenance import provenance
from adnext_plugin.workflows.baselines import region_columns

FOLDER = Path(__file__).parent
RESULT = FOLDER / "results" / "oasis_leaderboard.json"
PRESETS = {PLANS_NAME: FOLDER / "oasis_coarse_plan.json", **anatomy_arms.PRESETS}
HIPPOCAMPUS = [f"{name}{REGION_VOLUME}" for name in medial_temporal_volumes() if name.startswith("hippocampus")]
TOLD = ["age", "sex"]
RATED = (210, "OasisRated")
# of each task the columns of simple models, of which the last is what others are compared with
SIMPLE = {
    "ad": (["age"], ["nWBV"], TOLD, [*TOLD, "nWBV"]),
    "sex": (["age"], ["age", "eTIV", "nWBV"]),
    "age": (["nWBV"], ["sex", "nWBV"]),
}
# and its part of the file
PARTS = {"sex": "sex_of_everyone", "age": "age_of_normal_people"}
REFERENCE_KEY = "less_" + "_".join([*TOLD, "nWBV"])


@dataclass(frozen=True, kw_only=True)
class Row:
    """A trained model: trainer, plans, settings, and under how many seeds."""

    trainer: str
    plans: str = PLANS_NAME
    settings: dict[str, Any] = field(default_factory=dict)
    seeds: int = 1

    def of_task(self, task: str) -> "Row":
        """The row as it is for a task: only AD is told columns beside the image."""
        told = self.settings.get("covariates")
        return self if task == "ad" or not told else replace(self, settings={**self.settings, "covariates": []})


LINEAR = {"learn_from_selection": True, "covariates": TOLD}
ROWS = {
    "regions (hippocampal fluid)+age+sex": Row(trainer="ADNeXtRegionsTrainer"),
    "regions (hippocampus)+age+sex": Row(
        trainer="ADNeXtRegionsTrainer", settings={"covariates": [*TOLD, *HIPPOCAMPUS]}
    ),
    "regions (hippocampal fluid)+age+sex+nWBV": Row(
        trainer="ADNeXtRegionsTrainer", settings={"covariates": [*TOLD, "nWBV", *REGIONS_OF_AD]}
    ),
    "linear, T1": Row(trainer="ADNeXtLinearTrainer", settings=LINEAR),
    "linear, modulated grey matter": Row(
        trainer="ADNeXtLinearTrainer", plans="Tissues", settings={**LINEAR, "channels": ["grey"]}
    ),
    "linear, grey matter and fluid": Row(
        trainer="ADNeXtLinearTrainer", plans="Tissues", settings={**LINEAR, "channels": ["grey", "fluid"]}
    ),
    "linear, medial temporal grey matter and fluid": Row(
        trainer="ADNeXtLinearTrainer", plans="MedialTemporal", settings={**LINEAR, "channels": ["grey", "fluid"]}
    ),
    "linear, medial temporal grey matter and fluid, with hippocampal fluid": Row(
        trainer="ADNeXtLinearTrainer",
        plans="MedialTemporal",
        settings={**LINEAR, "channels": ["grey", "fluid"], "covariates": [*TOLD, *REGIONS_OF_AD]},
    ),
}


def main() -> None:
    """Make what is asked for and not there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for nnU-Net's three folders")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rated", action="store_true", help="everybody whom clinicians rated, in five folds")
    parser.add_argument("--task", choices=SIMPLE, default="ad")
    arguments = parser.parse_args()
    if arguments.rated and arguments.task != "ad":
        parser.error("--rated is of AD")
    work = arguments.work.absolute()
    use_folders(work)
    number, name = RATED if arguments.rated else TASKS[arguments.task][:2]
    dataset = dataset_folder(number, name)
    if not (work / "nnUNet_raw" / dataset).is_dir():
        _import_rated(work) if arguments.rated else import_task(
            arguments.task, work, options=_left_out(arguments, work)
        )
    folds = ["--folds", "5"] if arguments.rated else []
    for plans in dict.fromkeys([PLANS_NAME, *(ROWS[row].plans for row in arguments.rows)]):
        words = ["-d", str(number), "--preset", str(PRESETS[plans]), "-p", plans, *folds]
        run_command("adnext_plan_and_preprocess", *words)
    run_command("adnext_regions", "-d", str(number), accepted=(0, 2))
    cohort = Cohort.open(work / "nnUNet_preprocessed" / dataset)
    report = json.loads(RESULT.read_text()) if RESULT.is_file() else {"rows": {}}
    report |= {"made_by": provenance(), "hardware": {"cpus": os.cpu_count()}}
    key = "rated_in_five_folds" if arguments.rated else PARTS.get(arguments.task)
    part = report if key is None else report.setdefault(key, {"rows": {}})
    part["people"] = len(cohort.subjects)
    simple = simple_models(cohort, arguments.task)
    reference = simple["+".join(SIMPLE[arguments.task][-1])]
    for row, people in simple.items():
        part["rows"][row] = scored(people, reference)
    for row in arguments.rows:
        made = ROWS[row].of_task(arguments.task)
        part["rows"][row] = _trained(made, str(number), work / "nnUNet_results", cohort, reference)
        RESULT.write_text(json.dumps(report, indent=1) + "\n")
        print(row, json.dumps(part["rows"][row]), flush=True)


def _left_out(arguments: argparse.Namespace, work: Path) -> list[str]:
    """Options of the import; AD's people are those of other results, and all of their brains are whole."""
    if arguments.task == "ad":
        return []
    (work / "exclude.csv").write_text(f"subject_id,session_id\n{HALF_A_BRAIN},MR1\n")
    return ["--exclude", str(work / "exclude.csv")]


def _import_rated(work: Path) -> None:
    """First sessions of people with an MMSE: the others were young volunteers, whom nobody rated."""
    data = Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA)) / "oasis1"
    rows = pd.read_csv(oasis_table(data, work))
    table = work / "rated.csv"
    rows[rows["MMSE"].notna()].to_csv(table, index=False)
    run_command(
        *("adnext_import", *map(str, RATED), "--table", str(table), "--images", str(data)),
        *("--image-pattern", "images/{ID}.nii.gz", "--subject-column", "subject_id", "--session-column", "session"),
        *("--age-column", "Age", "--sex-column", "M/F", "--keep", "nWBV,eTIV", "--from-cdr", "CDR", *FIRST_SESSIONS),
    )


def simple_models(cohort: Cohort, task: str) -> dict[str, OfSubjects]:
    """Models of columns, on `train` alone as `adnext_evaluate` has them."""
    models = {"+".join(one): covariates(cohort, one) for one in SIMPLE[task]}
    beside = TOLD if task == "ad" else []
    models["+".join(["baseline regions (18)", *beside])] = regions(cohort, region_columns(cohort.subjects), beside)
    return {name: of_subjects(cross_validate(model, cohort), cohort.task) for name, model in models.items()}


def _trained(row: Row, number: str, results: Path, cohort: Cohort, reference: OfSubjects) -> dict:
    results = results.with_name(f"{results.name}_{slug(row)}")  # two rows may have one trainer and one plan
    results.mkdir(exist_ok=True)
    os.environ["nnUNet_results"] = str(results)
    settings = set_options(f"{key}={json.dumps(value)}" for key, value in row.settings.items())
    train = ["adnext_train", number, "3d_fullres", "cv", "-tr", row.trainer, "-p", row.plans, "--continue"]
    evaluated = [run / "crossval_results" / "metrics.json" for run in runs_of(results / cohort.name, row)]
    if len(evaluated) < row.seeds or not all(file.is_file() for file in evaluated):
        run_command(*train, "--seeds", str(row.seeds), *settings)
    tables = [
        pd.concat([pd.read_csv(file) for file in sorted(run.glob("fold_*/validation/predictions.csv"))])
        for run in runs_of(results / cohort.name, row)
    ]
    seeds = [of_subjects(table, cohort.task) for table in tables]
    found = scored(seeds[0], reference) | {"trainer": row.trainer, "plans": row.plans, "settings": row.settings}
    if row.seeds > 1:
        found["auc_of_seeds"] = [numbers(estimates(one, resamples_of(one))["auc_mean_of_folds"]) for one in seeds]
        shares = [name for name in tables[0] if name.startswith("prob_")]
        mean = tables[0].assign(
            **{name: sum(table[name].to_numpy() for table in tables) / len(tables) for name in shares}
        )
        found["mean_of_seeds"] = scored(of_subjects(mean, cohort.task), reference)
    return found


def runs_of(folder: Path, row: Row) -> list[Path]:
    first = RunFolder(folder / run_name(row.trainer, row.plans, "3d_fullres"))
    return [first.path, *(run.path for run in seed_runs(first).values())][: row.seeds]


def slug(row: Row) -> str:
    return sha256(repr(row).encode()).hexdigest()[:8]


def scored(people: OfSubjects, reference: OfSubjects) -> dict:
    """AUC, or years of mean absolute error; and how much better that is than the reference's."""
    resamples = resamples_of(people)
    found = estimates(people, resamples)
    is_age = isinstance(people, SubjectValues)
    score = {"mae": numbers(found["mae"])} if is_age else {"auc": numbers(found["auc_mean_of_folds"])}
    gained = None if people is reference else numbers(gain(people, reference, resamples))
    return {**score, "gain" if is_age or people.classes != ("CN", "AD") else REFERENCE_KEY: gained}


def numbers(estimate: Estimate) -> dict:
    return {"value": estimate.value, "interval": [estimate.low, estimate.high]}


if __name__ == "__main__":
    main()
