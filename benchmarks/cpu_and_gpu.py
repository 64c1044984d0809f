"""Does a network that learned on a GPU judge people as well as one that learned on a CPU?

    python benchmarks/cpu_and_gpu.py train --work DIR --take DEMO OASIS --device cpu
    python benchmarks/cpu_and_gpu.py train --work DIR --take DEMO OASIS --device cuda --processes 6
    python benchmarks/cpu_and_gpu.py score --work DIR

DEMO is a folder of `adnext_demo`, OASIS one in which `oasis_leaderboard.py --task sex` has prepared people: the same
prepared scans and folds for both devices. Chance alone moves an AUC from one seed to the next, and a GPU draws other
random numbers than a CPU; so each device has several seeds, and what is compared is the mean of their AUCs, paired by
person. The GPU learns in its own precision and once more in float32: a difference that only the first has would be due
to bfloat16. PyTorch draws truncated normal numbers otherwise since some version after 2.11, so that a seed is another
network there: an arm of the CPU begins with the weights that 2.11 draws, which the machine with the GPU had.

Each finished fold leaves a table of predictions in DIR/predictions; an interrupted run goes on when the same command is
given again. `score` writes benchmarks/results/cpu_and_gpu.json.
"""

import argparse
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd
import torch
from oasis_leaderboard import numbers
from pipeline import dataset_folder, run_of, set_options, use_folders
from torch import nn
from worker_pool import AUDITED, Job, run_jobs, warm_training

from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.scores.panel import panel
from adnext_plugin.evaluation.scores.table import primary_score
from adnext_plugin.evaluation.studies.crossval import of_subjects
from adnext_plugin.evaluation.subjects.values import OfSubjects
from adnext_plugin.evaluation.uncertainty.bootstrap import Estimate, bootstrap
from adnext_plugin.evaluation.uncertainty.intervals import estimates, resamples_of
from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "cpu_and_gpu.json"
TRUNCATED_NORMAL = nn.init.trunc_normal_
FOLDS = range(4)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A dataset and how it is learned."""

    number: int
    name: str
    trainer: str
    seeds: tuple[int, ...]
    settings: dict[str, Any]


TASKS = {
    "demo": Task(number=999, name="Demo", trainer="ADNeXtTrainer_T", seeds=(0, 1, 2), settings={"epochs": 30}),
    "sex": Task(number=203, name="OasisSex", trainer="ADNeXtTrainer_T_Small", seeds=(42, 43), settings={}),
}
# of a device, what is set besides
AS_2_11 = "cpu_from_weights_of_2_11"
ARMS: dict[str, dict[str, dict[str, Any]]] = {
    "cpu": {"cpu": {}, AS_2_11: {}},
    "cuda": {"gpu": {}, "gpu_float32": {"precision": "float32"}},
}


@dataclass(frozen=True, kw_only=True)
class Fold:
    """A fold of a task under a seed."""

    task: str
    arm: str
    seed: int
    fold: int

    @property
    def table(self) -> str:
        """Name of the file of its predictions."""
        return f"{self.task}_{self.arm}_seed{self.seed}_fold{self.fold}.csv"


def main() -> None:
    """Train, or score what is there."""
    arguments = _parse()
    tables = arguments.work / "predictions"
    tables.mkdir(parents=True, exist_ok=True)
    use_folders(arguments.work)
    _link(arguments.take, arguments.work)
    if arguments.what == "score":
        _score(arguments.work, tables)
        return
    jobs = [
        _job(fold, settings, arguments, tables)
        for fold, settings in _folds(arguments)
        if not (tables / fold.table).is_file()
    ]
    logs = arguments.work / "logs"
    log = arguments.work / "cpu_and_gpu.jsonl"
    failed = run_jobs(jobs, arguments.processes, math.inf, log, logs, start="spawn", warm=warm_training)
    raise SystemExit(1 if failed else 0)


def _folds(arguments: argparse.Namespace) -> Iterator[tuple[Fold, dict[str, Any]]]:
    """All there is to train, first seeds first, with settings."""
    for turn in range(max(len(TASKS[name].seeds) for name in arguments.tasks)):
        for arm in arguments.arms or ARMS[arguments.device]:
            for name in arguments.tasks:
                for seed in TASKS[name].seeds[turn : turn + 1]:
                    settings = TASKS[name].settings | ARMS[arguments.device][arm]
                    for fold in FOLDS:
                        yield Fold(task=name, arm=arm, seed=seed, fold=fold), settings


def _job(fold: Fold, settings: dict[str, Any], arguments: argparse.Namespace, tables: Path) -> Job:
    task = TASKS[fold.task]
    words = ["train", str(task.number), "3d_fullres", str(fold.fold), "-tr", task.trainer]
    words += ["-device", arguments.device, "--disable_checkpointing"]
    settings = {**settings, **(AUDITED if arguments.audited else {}), "seed": fold.seed}
    words += set_options(f"{key}={json.dumps(value)}" for key, value in settings.items())
    results = arguments.work / "results" / f"{fold.task}_{fold.arm}_seed{fold.seed}"
    folder = results / dataset_folder(task.number, task.name) / run_of(task.trainer) / f"fold_{fold.fold}"
    return Job(
        key={"task": fold.task, "arm": fold.arm, "seed": fold.seed, "fold": f"fold{fold.fold}"},
        commands=[partial(_begun, words, as_2_11=fold.arm == AS_2_11)],
        results=results,
        found=partial(_found, folder, tables / fold.table),
    )


def _begun(words: list[str], *, as_2_11: bool) -> list[str]:
    """The command, once the process draws first weights as it is to."""
    nn.init.trunc_normal_ = _truncated_normal_of_2_11 if as_2_11 else TRUNCATED_NORMAL
    return words


@torch.no_grad()
def _truncated_normal_of_2_11(tensor: torch.Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2, b: float = 2):
    low, high = (math.erf((limit - mean) / std / math.sqrt(2)) for limit in (a, b))
    return tensor.uniform_(low, high).erfinv_().mul_(std * math.sqrt(2)).add_(mean).clamp_(a, b)


def _found(folder: Path, table: Path) -> list[dict[str, Any]]:
    shutil.copy(folder / "validation" / "predictions.csv", table)
    summary = json.loads((folder / "validation" / "summary.json").read_text())
    return [{"auc": summary["metrics"]["val"]["auc"], "made_by": provenance()}]


def _link(sources: list[Path], work: Path) -> None:
    """Make the datasets of other folders of work those of this one, too."""
    for source in sources:
        for part in ("nnUNet_raw", "nnUNet_preprocessed"):
            for dataset in (source.absolute() / part).glob("Dataset*"):
                if not (work / part / dataset.name).exists():
                    (work / part / dataset.name).symlink_to(dataset)


def _score(work: Path, tables: Path) -> None:
    report: dict[str, Any] = {"made_by": provenance(), "tasks": {}}
    log = [json.loads(line) for line in (work / "cpu_and_gpu.jsonl").read_text().splitlines()]
    report["devices"] = sorted({line["made_by"]["device"] for line in log if "made_by" in line})
    for name, task in TASKS.items():
        cohort = Cohort.open(work / "nnUNet_preprocessed" / dataset_folder(task.number, task.name))
        arms = {arm: _seeds(name, arm, tables, cohort) for of_device in ARMS.values() for arm in of_device}
        if not any(arms.values()):
            continue
        report["tasks"][name] = {
            "trainer": task.trainer,
            "people": len(cohort.subjects),
            "arms": {arm: _of_arm(seeds) for arm, seeds in arms.items() if seeds},
            "less": {
                reference: {
                    arm: _difference(seeds, arms[reference])
                    for arm, seeds in arms.items()
                    if arm != reference and seeds and arms[reference]
                }
                for reference in ARMS["cpu"]
            },
        }
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report["tasks"], indent=1))


def _seeds(task: str, arm: str, tables: Path, cohort: Cohort) -> dict[int, OfSubjects]:
    """What the seeds of an arm that have all folds say of everybody."""
    found = {}
    for seed in TASKS[task].seeds:
        files = [tables / Fold(task=task, arm=arm, seed=seed, fold=fold).table for fold in FOLDS]
        if all(file.is_file() for file in files):
            found[seed] = of_subjects(pd.concat([pd.read_csv(file) for file in files]), cohort.task)
    return found


def _auc(people: OfSubjects) -> Estimate:
    return estimates(people, resamples_of(people))["auc_mean_of_folds"]


def _of_arm(seeds: dict[int, OfSubjects]) -> dict[str, Any]:
    aucs = {seed: _auc(people) for seed, people in seeds.items()}
    values = [auc.value for auc in aucs.values()]
    found: dict[str, Any] = {"seeds": {seed: numbers(auc) for seed, auc in aucs.items()}, "mean": mean(values)}
    return found | ({"sd_of_seeds": stdev(values)} if len(values) > 1 else {})


def _difference(ours: dict[int, OfSubjects], reference: dict[int, OfSubjects]) -> dict[str, Any]:
    """The mean AUC of our seeds less that of the reference's, of the seeds that both have, over resamples of people."""
    both = [seed for seed in reference if seed in ours]
    ours, reference = ({seed: seeds[seed] for seed in both} for seeds in (ours, reference))
    first = next(iter(reference.values()))
    primary = primary_score(first)
    for people in ours.values():
        assert np.array_equal(people.subject_ids, first.subject_ids)

    def mean_auc(seeds: dict[int, OfSubjects], weights: np.ndarray) -> np.ndarray:
        return np.mean([panel(people, weights, (primary,))[primary.name] for people in seeds.values()], axis=0)

    def of(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"difference": mean_auc(ours, weights) - mean_auc(reference, weights)}

    return {"seeds": both, **numbers(bootstrap(of, resamples_of(first))["difference"])}


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "score"])
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--take", type=Path, nargs="+", default=[], help="folders of work with prepared datasets")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--arms", nargs="+", help="of the device (default: all)")
    parser.add_argument("--device", choices=ARMS, default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--audited", action="store_true", help="folds were audited on another machine already")
    return parser.parse_args()


if __name__ == "__main__":
    main()
