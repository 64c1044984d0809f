"""Which objective of pre-training is worth what: one network, about equal compute, tasks of new people.

    python benchmarks/pretraining_study.py --work DIR --seeds 1 2

Corpus: everybody of IXI, and every other one of the OASIS-1 people under 60 who came once. A sixth is held out, and
says whether an objective beats its trivial guesses. Tasks are of people who are not in the corpus: `unseen` is all
others of OASIS-1 (sex, age of those without dementia, and 20 who came twice), `ad` those from 60 on (AD against
normal), `cohorts` those whom the corpus holds out (IXI or OASIS-1: what a scanner and its preparation leave behind;
the scans of IXI are all of one site).

Network: AD-NeXt-T with what the recipe for few scans gives it (docs/recipes.md), on voxels of 3.2 mm. Arms that mask
have the patch stem: `fcmae` can mask no other, and the batch norms of the convolutional one would hand on statistics of
scans with holes. All else has the convolutional stem. Each arm is compared with a random network, and with training
from scratch, that has its own stem. `fcmae` and `hybrid` need whole 32³ patches and see 64³ voxels, `amaes` is shown
boxes of 32³, which are 10 cm wide (the paper's are 13), all else sees the 48×56×48 of the tasks.

Arms have epochs for about four minutes of one idle processor each, by how long one epoch of each took on these scans.
The log has the processor's seconds, which beside other work are up to twice as many. The seed is that of weights, order
and augmentation. What is chosen besides, before any run of the log:
    rate 1e-3 with AdamW, falling to 0, one epoch of warm-up: the papers' 1e-4 are for a hundred times as many steps.
    Weight decay 0.05 as in the recipe. Supervised (`proxy`): the recipe itself, 3e-3.
    batch 8 as in the recipe; 16 where scans are contrasted, as in docs/pretraining.md
    views of contrast are those of `dufumier`: after one epoch with `cutout`, 23 of 24 people of `selection` were
    matched, so that there was little left to learn
    `hybrid` reconstructs as `fcmae` does; its other options are its defaults
    `proxy` is told age, sex, the brain's share of the skull's volume, in standard deviations of its cohort since two
    programs measured it, and of IXI alone the ventricles'
Then come linear models of the frozen features (`adnext_probe`), sex and age of `unseen` learned from a quarter of the
training people, and AD: `scratch` by the recipe, the arms once with all layers (rate 1e-3, layer decay 0.7, as in
docs/pretraining.md) and once with the head alone (layer decay 0, half as many epochs). Nothing is chosen on held-out
people.

The interval of seed 1 just reached 0 for `proxy` (all layers, age and sex from a quarter of the labels). Therefore,
before they ran: seeds 2 and 3 of these two tasks, reported whatever they are. Seed 3 has not been run.

`proxy_running_averages` in the log is the first run of `proxy`, from when pre-training did not settle batch norms yet.
Appends one line per run to benchmarks/results/pretraining_study.jsonl, and what is there already is not run again. An
interrupted training continues. --summary writes benchmarks/results/pretraining_study.json and prints its table. The
scans are those described in the data's own README; ADNEXT_TEST_DATA names their folder.
"""

import argparse
import json
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from brain_age import PRESET, prepare
from oasis_ad import DEFAULT_DATA, RESULTS, SAME_PERSON, TASKS, import_task
from pipeline import dataset_folder, run_command, set_options, use_folders
from pretraining_gain import folds_trained

from adnext_plugin.evaluation.studies.crossval import of_subjects
from adnext_plugin.evaluation.subjects.values import OfSubjects
from adnext_plugin.evaluation.uncertainty.intervals import estimates, gain, resamples_of
from adnext_plugin.files import read_json, write_json
from adnext_plugin.paths import PLANS_NAME, SPLITS_FILE, run_name
from adnext_plugin.subjects import read_dataset
from adnext_plugin.trainers.variants.small import OPTIONS
from adnext_plugin.training.provenance import provenance

LOG_OF_RUNS = RESULTS / "pretraining_study.jsonl"
SUMMARY = RESULTS / "pretraining_study.json"
PRETRAINER, CLASSIFIER = "ADNeXtPretrainer", "ADNeXtTrainer_T_Small"
SCRATCH = "scratch_"  # and the stem: a classifier from no weights
CORPUS, UNSEEN, COHORTS = (310, "PretrainingCorpus"), (311, "UnseenOasis"), (312, "Cohorts")
AGE = (313, "UnseenAge")
AD = TASKS["ad"][:2]
WHOLE_PATCHES, WHOLE_PATCHES_PLANS, PATCH_PLANS = [64, 64, 64], "WholePatches", "Plans_patch"
COLUMNS = ["--subject-column", "subject_id", "--session-column", "session"]
COLUMNS += ["--age-column", "age", "--sex-column", "sex", "--site-column", "site"]
HELD_OUT, SELECTED = 6, 12  # every sixth of the corpus, and every twelfth after it
NUMBERS = ["age", "brain_share", "ventricles_ml"]
PROBES = {
    "unseen": (UNSEEN, ["sex", "age_of_normal"], "age,eTIV,nWBV"),
    "ad": (AD, ["diagnosis"], "age,sex,nWBV"),
    "cohorts": (COHORTS, ["site"], "age,sex"),
}
COMMON = {
    "optimizer": "adamw",
    "betas": [0.9, 0.999],
    "amsgrad": False,
    "learning_rate": 1e-3,
    "min_learning_rate": 0.0,
    "schedule": "cosine",
    "warmup_epochs": 1,
    "weight_decay": 0.05,
    "batch_size": 8,
}
# of the classifier's settings, what differs after weights from training from scratch
HOW = {
    "scratch": [],
    "whole": ["learning_rate=1e-3", "layer_decay=0.7"],
    "head": ["layer_decay=0", "epochs=10", "warmup_epochs=1"],
}
FINETUNED_TASKS = {  # the dataset, settings
    "sex_25": (UNSEEN, ["train_fraction=0.25"]),
    "age_25": (AGE, ["train_fraction=0.25"]),
    "ad": (AD, ['covariates=["age","sex"]']),
}


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An objective with its options, how long it learns, what else differs from the settings in common."""

    objective: str
    epochs: int
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    stem: str = "convolutional"
    sees_whole_patches: bool = False


VIEWS = {"batch_size": 16, "augmentation": "dufumier"}
ARMS = {
    "fcmae": Arm(objective="fcmae", epochs=22, stem="patch", sees_whole_patches=True),
    "amaes": Arm(
        objective="amaes",
        epochs=14,
        options={"patch_voxels": [32, 32, 32]},
        settings={"augmentation": "amaes_spatial"},
        stem="patch",
    ),
    "contrastive": Arm(objective="contrastive", epochs=11, options={"projector_norm": "batch"}, settings=VIEWS),
    "simclr": Arm(
        objective="contrastive", epochs=11, options={"projector_norm": "batch", "sigmas": {}}, settings=VIEWS
    ),
    "hybrid": Arm(
        objective="hybrid",
        epochs=10,
        options={"contrast_augmentation": "dufumier"},
        settings={"batch_size": 16},
        stem="patch",
        sees_whole_patches=True,
    ),
    "proxy": Arm(objective="proxy", epochs=16, options={"numbers": NUMBERS}, settings={"learning_rate": 3e-3}),
}


def main() -> None:
    """Run what is missing."""
    arguments = _parse()
    use_folders(arguments.work)
    if arguments.summary:
        print(_summarised())
        return
    if not (prepared_folder(AD) / f"{PATCH_PLANS}.json").is_file():  # what is prepared last
        _prepare(arguments.work, Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA)))
    for name, arm in ARMS.items():
        source = WHOLE_PATCHES_PLANS if arm.sees_whole_patches else PLANS_NAME
        write_plans(CORPUS, source, f"Plans_{name}", _network(arm.stem), _pretraining(arm))
    for seed in arguments.seeds:
        for stage in arguments.stages:
            STAGES[stage](arguments, seed)


def _pretrain_all(arguments: argparse.Namespace, seed: int) -> None:
    for name in arguments.arms:
        _logged({"run": "pretrain", "arm": name, "seed": seed}, lambda name=name: _pretrain(name, seed))


def _probe_all(arguments: argparse.Namespace, seed: int) -> None:
    for name in arguments.arms:
        for task in PROBES:
            key = {"run": "probe", "arm": name, "seed": seed, "task": task}
            _logged(key, lambda name=name, task=task: _probe(name, seed, task))


def _finetune_all(arguments: argparse.Namespace, seed: int) -> None:
    stems = dict.fromkeys(ARMS[name].stem for name in arguments.arms)
    runs = [(task, f"{SCRATCH}{stem}", "scratch") for task in arguments.tasks for stem in stems]
    runs += [(task, name, how) for how in arguments.how for task in arguments.tasks for name in arguments.arms]
    for task, name, how in runs:
        key = {"run": "finetune", "arm": name, "seed": seed, "task": task, "how": how}
        _logged(key, lambda run=(task, name, how): _finetune(arguments.work, seed, *run))


STAGES = {"pretrain": _pretrain_all, "probe": _probe_all, "finetune": _finetune_all}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--tasks", nargs="+", choices=FINETUNED_TASKS, default=list(FINETUNED_TASKS), help="likewise")
    parser.add_argument("--how", nargs="+", choices=["head", "whole"], default=["head"], help="to fine-tune")
    parser.add_argument("--summary", action="store_true", help="write and print what the log says, and run nothing")
    return parser.parse_args()


# ------------------------------------------------------------------ data


def _prepare(work: Path, data: Path) -> None:
    """Import and prepare the corpus and the tasks."""
    people = people_of(data)
    in_corpus, unseen = people[people["in_corpus"]], people[~people["in_corpus"]]
    kept = ["--unlabelled", "--keep", "brain_share,ventricles_ml"]
    plan_whole_patches(CORPUS, in_corpus, work, [*COLUMNS, *kept])
    splits = splits_of_corpus(prepared_folder(CORPUS))
    write_json(splits, prepared_folder(CORPUS) / SPLITS_FILE)
    prepare(UNSEEN, unseen, work, [*COLUMNS, "--target", "sex", "--keep", "age_of_normal,eTIV,nWBV"])
    without_age = [word for word in COLUMNS if word not in ("--age-column", "age")]
    normal = unseen[unseen["age_of_normal"].notna()]
    prepare(AGE, normal, work, [*without_age, "--regress", "age_of_normal"])
    write_json(_folds_of_unseen(), prepared_folder(AGE) / SPLITS_FILE)
    held_out = pd.read_csv(prepared_folder(CORPUS) / "subjects.csv").set_index("case_id")["subject_id"]
    held_out = in_corpus[in_corpus["subject_id"].isin(held_out[splits[0]["val"]])]
    prepare(COHORTS, held_out, work, [*COLUMNS, "--unlabelled"])
    if not (Path(os.environ["nnUNet_raw"]) / dataset_folder(*AD)).is_dir():
        import_task("ad", work)
    run_command("adnext_plan_and_preprocess", "-d", str(AD[0]), "--preset", str(PRESET))
    for dataset in (UNSEEN, COHORTS, AD, AGE):
        write_plans(dataset, PLANS_NAME, PATCH_PLANS, _network("patch"))


def people_of(data: Path) -> pd.DataFrame:
    """One row per scan: whose, its file, site, whether it is in the corpus, and what was measured."""
    oasis = pd.read_csv(data / "oasis1" / "oasis1.csv").rename(columns={"Age": "age", "M/F": "sex"})
    oasis = oasis[oasis["subject_id"] != SAME_PERSON]
    oasis["file"] = [str(data / "oasis1" / "images" / f"{ID}.nii.gz") for ID in oasis["ID"]]
    oasis["age_of_normal"] = oasis["age"].where(~(oasis["CDR"] > 0))
    came_twice = oasis["subject_id"].duplicated(keep=False)
    young = sorted(oasis.loc[(oasis["age"] < 60) & ~came_twice, "subject_id"])
    oasis = oasis.assign(site="OASIS", in_corpus=oasis["subject_id"].isin(young[::2]), share=oasis["nWBV"])
    ixi = pd.read_csv(data / "ixi" / "ixi.csv").rename(columns={"Age": "age", "Sex": "sex"})
    ixi["file"] = [str(data / "ixi" / "brain" / f"{subject}_T1w.nii.gz") for subject in ixi["subject_id"]]
    ixi = ixi.assign(site="IXI", session="M00", in_corpus=True, share=ixi["TotalBrain"] / ixi["ICV"])
    ixi["ventricles_ml"] = ixi["Ventricles"] / 1000
    people = pd.concat([oasis, ixi], ignore_index=True)
    share = people.groupby("site")["share"]
    return people.assign(brain_share=(people["share"] - share.transform("mean")) / share.transform("std"))


def _folds_of_unseen() -> list[dict[str, list[str]]]:
    """Those of `unseen`, of people whose age is asked for."""
    cases = set(pd.read_csv(prepared_folder(AGE) / "subjects.csv")["case_id"])
    folds = read_json(prepared_folder(UNSEEN) / SPLITS_FILE)
    return [{part: [case for case in fold[part] if case in cases] for part in fold} for fold in folds]


def splits_of_corpus(folder: Path) -> list[dict[str, list[str]]]:
    """One fold, which holds every sixth person of either cohort out."""
    cases = pd.read_csv(folder / "subjects.csv").sort_values("subject_id")["case_id"].tolist()
    held_out, selected = cases[::HELD_OUT], cases[1::SELECTED]
    train = sorted(set(cases) - {*held_out, *selected})
    return [{"train": train, "selection": sorted(selected), "val": sorted(held_out)}]


def plan_whole_patches(dataset: tuple[int, str], people: pd.DataFrame, work: Path, columns: Sequence[str]) -> None:
    """Prepare people a second time, so that masks of whole 32³ patches fit."""
    prepare(dataset, people, work, columns)
    preset = json.loads(PRESET.read_text())
    preset["preprocessing"]["input_size_voxels"] = WHOLE_PATCHES
    path = work / "whole_patches.json"
    path.write_text(json.dumps(preset))
    plan = ["adnext_plan_and_preprocess", "-d", str(dataset[0]), "-p", WHOLE_PATCHES_PLANS]
    run_command(*plan, "--preset", str(path))


def write_plans(
    dataset: tuple[int, str],
    source: str,
    name: str,
    network: dict[str, Any],
    pretraining: dict[str, Any] | None = None,
) -> None:
    """A copy of prepared plans, whose volumes it shares, with the network and what it is pre-trained by."""
    plans = read_json(prepared_folder(dataset) / f"{source}.json")
    block = plans["configurations"]["3d_fullres"]["adnext"]
    block["network"] = network
    if pretraining is not None:
        block["pretraining"] = pretraining
    write_json({**plans, "plans_name": name}, prepared_folder(dataset) / f"{name}.json")


def _network(stem: str) -> dict[str, Any]:
    return {"name": "adnext_t", "options": {**OPTIONS, "stem": stem}}


def _pretraining(arm: Arm) -> dict[str, Any]:
    options = {"objective": arm.objective, "options": arm.options, "epochs": arm.epochs}
    return {**COMMON, **options, **arm.settings}


def prepared_folder(dataset: tuple[int, str]) -> Path:
    """Of a dataset, below nnUNet_preprocessed."""
    return Path(os.environ["nnUNet_preprocessed"]) / dataset_folder(*dataset)


# ------------------------------------------------------------------ runs


def _logged(key: dict[str, Any], run: Callable[[], dict[str, Any]]) -> None:
    """Do what is not in the log yet, and add it with the processor's seconds that it took."""
    done = [json.loads(line) for line in LOG_OF_RUNS.read_text().splitlines()] if LOG_OF_RUNS.is_file() else []
    if any(key.items() <= line.items() for line in done):
        return
    before = _processor_seconds()
    found = run()
    line = {**key, "processor_seconds": round(_processor_seconds() - before, 1), **found, "made_by": provenance()}
    with LOG_OF_RUNS.open("a") as log:
        log.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def _processor_seconds() -> float:
    """Of all commands that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run_folder(name: str, seed: int) -> Path:
    run = run_name(PRETRAINER, f"Plans_{name}", "3d_fullres")
    return Path(os.environ["nnUNet_results"]) / f"seed_{seed}" / dataset_folder(*CORPUS) / run / "fold_0"


def _pretrain(name: str, seed: int) -> dict[str, Any]:
    """Train an arm; settings, and held-out figures beside guesses."""
    folder, results = _run_folder(name, seed), os.environ["nnUNet_results"]
    words = [str(CORPUS[0]), "3d_fullres", "0", "-tr", PRETRAINER, "-p", f"Plans_{name}", "--seed", str(seed)]
    os.environ["nnUNet_results"] = str(folder.parents[2])
    run_command("adnext_pretrain", *words)
    os.environ["nnUNet_results"] = results
    return {"settings": _pretraining(ARMS[name]), "held_out": read_json(folder / "validation" / "summary.json")}


def _plans_of_tasks(stem: str) -> str:
    return PATCH_PLANS if stem == "patch" else PLANS_NAME


def _probe(name: str, seed: int, task: str) -> dict[str, Any]:
    """Linear models of an arm's frozen features on one of the datasets."""
    dataset, columns, baseline = PROBES[task]
    output = _run_folder(name, seed) / f"probe_{task}.json"
    options = ["-tr", CLASSIFIER, "-p", _plans_of_tasks(ARMS[name].stem), "--seed", str(seed), "-o", str(output)]
    weights = str(_run_folder(name, seed) / "checkpoint_final.pth")
    words = [*options, "--columns", *columns, "--baseline", baseline, "-pretrained_weights", weights]
    run_command("adnext_probe", str(dataset[0]), *words)
    found = read_json(output)
    return {name: found[name] for name in ("columns", "reliability")}


def _finetune(work: Path, seed: int, task: str, name: str, how: str) -> dict[str, Any]:
    """Cross-validate a classifier from an arm's weights, or from none, and compare it with one from none."""
    dataset, settings = FINETUNED_TASKS[task]
    is_scratch = name.startswith(SCRATCH)
    stem = name.removeprefix(SCRATCH) if is_scratch else ARMS[name].stem
    options = [*set_options([*settings, *HOW[how]]), "--seed", str(seed)]
    start = [] if is_scratch else ["-pretrained_weights", str(_run_folder(name, seed) / "checkpoint_final.pth")]
    key, folder = (dataset[0], dataset_folder(*dataset)), _finetuned(work, task, name, how, seed)
    run = folds_trained(key, folder, CLASSIFIER, options, start, _plans_of_tasks(stem))
    answers = _answers(run, dataset)
    found = {"score": vars(estimates(answers, resamples_of(answers))[answers.primary])}
    scratch = _finetuned(work, task, f"{SCRATCH}{stem}", "scratch", seed) / run.relative_to(folder)
    if not is_scratch and scratch.is_dir():
        found["gain_over_scratch"] = vars(gain(answers, _answers(scratch, dataset), resamples_of(answers)))
    return found


def _answers(run: Path, dataset: tuple[int, str]) -> OfSubjects:
    """What the classifiers of all folds say of the people they have not seen."""
    task, _ = read_dataset(prepared_folder(dataset))
    tables = [run / f"fold_{fold}" / "validation" / "predictions.csv" for fold in range(4)]
    return of_subjects(pd.concat([pd.read_csv(table) for table in tables]), task)


def _finetuned(work: Path, task: str, name: str, how: str, seed: int) -> Path:
    return work / "finetuned" / f"{task}_{name}_{how}_{seed}"


# ------------------------------------------------------------------ what was found


def _summarised() -> str:
    """Write the scores of every arm and seed into one file, and return them as a table."""
    lines = [json.loads(line) for line in LOG_OF_RUNS.read_text().splitlines()]
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for line in lines:
        row = rows.setdefault((line["arm"], line["seed"]), {"arm": line["arm"], "seed": line["seed"]})
        row |= {"pretrain": _of_pretraining, "probe": _of_probe, "finetune": _of_finetuning}[line["run"]](line)
    write_json({"made_by": provenance(), "rows": list(rows.values())}, SUMMARY)
    return pd.DataFrame(rows.values()).set_index(["arm", "seed"]).T.to_string(na_rep="")


def _of_pretraining(line: dict[str, Any]) -> dict[str, Any]:
    figures = {name: found for name, found in line["held_out"].items() if isinstance(found, dict)}
    compared_with = {
        f"held out, {name}, {who}": round(value, 3) for name, found in figures.items() for who, value in found.items()
    }
    return {"processor seconds": line["processor_seconds"], **compared_with}


def _of_probe(line: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for column in line["columns"]:
        name = f"frozen, {column['column']}"
        found |= {f"{name}, {model}": in_words(score) for model, score in column["models"].items()}
        found |= {f"{name}, gain over {other}": in_words(gain) for other, gain in column["gains"].items()}
    for who, repeated in line["reliability"].items():
        found[f"two scans, {who}"] = f"ICC {repeated['median_icc']:.2f}, {repeated['share_recognised']:.0%} recognised"
    return found


def _of_finetuning(line: dict[str, Any]) -> dict[str, Any]:
    name = f"{line['task']}, {line['how']}"
    found = {name: in_words(line["score"])}
    if "gain_over_scratch" in line:
        found[f"{name}, gain over scratch"] = in_words(line["gain_over_scratch"])
    return found


def in_words(estimate: dict[str, Any]) -> str:
    """A score or gain with its interval."""
    if estimate["low"] is None:
        return "none" if estimate["value"] is None else f"{estimate['value']:.3f}"
    return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**estimate)


if __name__ == "__main__":
    main()
