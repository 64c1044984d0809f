"""Networks on tissue maps for AD against normal (60 and older) on OASIS-1, on the folds of `oasis_leaderboard.py`.

    python benchmarks/anatomy_networks.py --work DIR                       # prepares, then trains; hours on a CPU
    python benchmarks/anatomy_networks.py --work DIR --device cuda --processes 4 --seconds 380
    python benchmarks/anatomy_networks.py --work DIR --only-prepare

`anatomy_arms.py` has every network, with its reason. Encoders learn age, sex and volumes without a diagnosis: of each
fold's training people, and of normal people of 30 to 59, who are in no fold of the task. Each finished network leaves a
table of predictions of everybody held out, and of `selection`, in DIR/predictions; `anatomy_scores.py` reads those. An
interrupted run goes on when the same command is given again. With --seconds nothing is begun after that time. The
scans are those described in the data's own README; ADNEXT_TEST_DATA names their folder.
"""

import argparse
import json
import math
import os
import shutil
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd
from anatomy_arms import ARMS, BOX, BRAIN, ENCODERS, PRESETS, SMALL, Arm, Encoder, People
from brain_age import corpus, first_sessions, task_splits
from oasis_ad import DEFAULT_DATA, HALF_A_BRAIN, SAME_PERSON, TASKS, import_task
from pipeline import dataset_folder, run_here, set_options, use_folders
from worker_pool import AUDITED, Job, run_jobs, warm_training

from adnext_plugin.paths import REGIONS_FILE, run_name

TASK = TASKS["ad"][:2]
PEOPLE: dict[People, tuple[int, str]] = {"from 30": (208, "Anatomy"), "all": (209, "AnatomyOfAll")}
PROXY = "ADNeXtProxyTrainer_T_Small"
FROM_AGE, TO_AGE = 30, 60
FIRST_SEED = 42
FOLDS = range(4)


@dataclass(frozen=True, kw_only=True)
class Unit:
    """An encoder or an arm under one seed in one fold."""

    name: str
    seed: int
    fold: int
    is_encoder: bool

    @property
    def needs(self) -> "Unit | None":
        """The encoder that it begins with."""
        encoder = None if self.is_encoder else ARMS[self.name].encoder
        return None if encoder is None else replace(self, name=encoder, is_encoder=True)

    @property
    def slug(self) -> str:
        """Name of its files."""
        words = self.name.replace("+", "_").replace(",", "").replace(" ", "_")
        return f"{'encoder' if self.is_encoder else 'arm'}_{words}_seed{self.seed}"

    @property
    def table(self) -> str:
        """Name of the file of an arm's predictions."""
        return f"{self.slug}_fold{self.fold}.csv"


def main() -> None:
    """Prepare, then train what is missing."""
    arguments = _parse()
    started = time.monotonic()
    use_folders(arguments.work)
    for plans in arguments.prepare:
        prepare(arguments.work, plans, str(arguments.processes))
    if arguments.only_prepare:
        return
    seeds = range(FIRST_SEED, FIRST_SEED + arguments.seeds)
    units = list(units_of(arguments.arms, seeds, range(arguments.folds)))
    settings = json.loads(arguments.all_settings)
    of_arms = AUDITED if arguments.audited else {}
    tables = arguments.work / "predictions"
    failed = run_jobs(
        [
            job_of(unit, arguments.work, arguments.device, settings if unit.is_encoder else settings | of_arms)
            for unit in units
            if not (tables / unit.table).exists()
        ],
        arguments.processes,
        math.inf,
        arguments.work / "anatomy_networks.jsonl",
        arguments.work / "logs",
        begin_until=started + arguments.seconds,
        start="spawn",
        warm=_warm,
    )
    sys.exit(1 if failed else 0)


def prepare(work: Path, plans: str, processes: str) -> None:
    """Import, prepare under these plans and measure whatever is not there."""
    raw, task = work / "nnUNet_raw", work / "nnUNet_preprocessed" / dataset_folder(*TASK)
    if not (raw / task.name).is_dir():
        import_task("ad", work, run_here)
    _plan(TASK[0], task, plans, processes)
    for who in sorted({encoder.people for encoder in ENCODERS.values() if encoder.plans == plans}):
        number, name = PEOPLE[who]
        people = work / "nnUNet_preprocessed" / dataset_folder(number, name)
        if not (raw / people.name).is_dir():
            table = work / f"{name}.csv"
            _people(task, who).to_csv(table, index=False)
            columns = ["--regress", "age", "--age-column", "age", "--sex-column", "sex", "--file-column", "file"]
            run_here("adnext_import", str(number), name, "--table", str(table), *columns)
        _share(task, people, raw, plans)
        _plan(number, people, plans, processes)
        (people / "splits_final.json").write_text(json.dumps(task_splits(people, task), indent=1))
        _mark(work, plans, who).touch()
    _mark(work, plans).touch()


def units_of(arms: list[str], seeds: range, folds: range) -> list[Unit]:
    """All there is to train, in order, an encoder before what begins with it: arms of rank 0, then all other seeds."""
    turns = [(_turn(ARMS[name].rank, seed - seeds[0]), seed, name) for name in arms for seed in seeds]
    units: dict[Unit, None] = {}  # in order, each once
    for _, seed, name in sorted(turns, key=lambda turn: turn[0]):
        of_folds = [Unit(name=name, seed=seed, fold=fold, is_encoder=False) for fold in folds]
        units |= dict.fromkeys(encoder for unit in of_folds if (encoder := unit.needs) is not None)
        units |= dict.fromkeys(of_folds)
    return list(units)


def _turn(rank: int, further: int) -> int:
    """When an arm is trained: those of rank 0 and 1, further seeds of rank 0, rank 2, and then all that is left."""
    return {0: 0, 1: 1, 2: 10}[rank] if further == 0 else {0: 1, 1: 10, 2: 20}[rank] + further


def job_of(unit: Unit, work: Path, device: str, settings: dict) -> Job:
    """How an encoder or an arm is trained in a fold, and what is to be said of it.

    Args:
        unit: what.
        work: folder with nnU-Net's folders.
        device: cpu or cuda.
        settings: those that replace all others, as for a trial with one epoch.
    """
    one = recipe_of(unit)
    trainer, dataset = (PROXY, PEOPLE[one.people]) if isinstance(one, Encoder) else (one.trainer, TASK)
    values = one.settings | {"seed": unit.seed} | settings
    words = ["train", str(dataset[0]), "3d_fullres", str(unit.fold), "-tr", trainer, "-p", one.plans]
    words += ["-device", device, *set_options(f"{key}={json.dumps(value)}" for key, value in values.items())]
    weights = () if unit.needs is None else (weights_of(unit.needs, work),)
    words += [word for path in weights for word in ("-pretrained_weights", str(path))]
    words += [] if unit.is_encoder else ["--disable_checkpointing"]
    results = work / "results" / unit.slug
    judged = results / dataset_folder(*dataset) / run_name(trainer, one.plans, "3d_fullres") / f"fold_{unit.fold}"
    return Job(
        key={"unit": unit.slug, "fold": f"fold{unit.fold}"},
        commands=[words],
        results=results,
        needs=weights,
        awaits=(_mark(work, one.plans, one.people if isinstance(one, Encoder) else None),),
        found=partial(_found, unit, judged / "validation", work / "predictions"),
    )


def _found(unit: Unit, judged: Path, tables: Path) -> list[dict]:
    """Of an arm its AUC on `selection`; its predictions are kept."""
    if unit.is_encoder:
        return [{}]
    tables.mkdir(parents=True, exist_ok=True)
    shutil.copy(judged / "predictions.csv", tables / unit.table)
    summary = json.loads((judged / "summary.json").read_text())
    return [{"auc_on_selection": summary["metrics"]["selection"]["auc"]}]


def _warm() -> None:
    """Import what training needs, while volumes are prepared."""
    from adnext_plugin.workflows.trainer_lookup import find_trainer

    for trainer in (PROXY, SMALL):
        find_trainer(trainer)
    warm_training()


def recipe_of(unit: Unit) -> Encoder | Arm:
    """What is trained."""
    return ENCODERS[unit.name] if unit.is_encoder else ARMS[unit.name]


def weights_of(unit: Unit, work: Path) -> Path:
    """What an encoder has learned in a fold."""
    encoder = ENCODERS[unit.name]
    run = run_name(PROXY, encoder.plans, "3d_fullres")
    folder = work / "results" / unit.slug / dataset_folder(*PEOPLE[encoder.people]) / run / f"fold_{unit.fold}"
    return folder / "checkpoint_final.pth"


def _plan(number: int, folder: Path, plans: str, processes: str) -> None:
    words = ["-d", str(number), "-p", plans, "-np", processes]
    run_here("adnext_plan_and_preprocess", *words, "--preset", str(PRESETS[plans]))
    if not (folder / REGIONS_FILE).is_file():
        run_here("adnext_regions", *words, accepted=(0, 2))


def _share(task: Path, people: Path, raw: Path, plans: str) -> None:
    """What is prepared of the task's scans is not prepared again for the other dataset, which has other case ids."""
    case_of = pd.read_csv(raw / people.name / "subjects.csv").set_index("subject_id")["case_id"]
    volumes = f"{plans}_3d_fullres"
    (people / volumes).mkdir(parents=True, exist_ok=True)
    for person, case in pd.read_csv(task / "subjects.csv").set_index("subject_id")["case_id"].items():
        for ending in (".b2nd", ".pkl"):
            shutil.copy(task / volumes / f"{case}{ending}", people / volumes / f"{case_of[person]}{ending}")


def _mark(work: Path, plans: str, people: People | None = None) -> Path:
    """Is there when a plan's volumes are: the task's, or those of an encoder's people."""
    return work / "_".join(["prepared", plans, *([] if people is None else [PEOPLE[people][1]])])


def _people(task: Path, who: People) -> pd.DataFrame:
    """Everybody of the task, and normal people who are younger; no diagnosis."""
    wanted = set(pd.read_csv(task / "subjects.csv")["subject_id"])
    data = Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA))
    oasis = first_sessions(data).rename(columns={"Age": "age", "M/F": "sex"})
    of_task, columns = oasis["subject_id"].isin(wanted), ["subject_id", "age", "sex", "file"]
    if who == "all":
        people = pd.concat([corpus(data, columns), oasis.loc[of_task, columns]])
        return people[people["subject_id"] != HALF_A_BRAIN]
    younger = ~(oasis["CDR"] > 0) & oasis["age"].between(FROM_AGE, TO_AGE, inclusive="left")
    chosen = (younger & (oasis["subject_id"] != SAME_PERSON)) | of_task
    return oasis.loc[chosen, columns]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing after so long")
    parser.add_argument(
        "--prepare", nargs="*", default=[BOX, BRAIN], help="under which plans; networks wait for theirs"
    )
    parser.add_argument("--only-prepare", action="store_true")
    parser.add_argument("--audited", action="store_true", help="folds were audited on another machine already")
    parser.add_argument("--folds", type=int, default=len(FOLDS), help="fewer, for a trial")
    parser.add_argument("--all-settings", default="{}", metavar="JSON", help="that replace those of all, for a trial")
    return parser.parse_args()


if __name__ == "__main__":
    main()
