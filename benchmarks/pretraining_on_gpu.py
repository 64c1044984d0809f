"""The study of objectives on a GPU: voxels of 2 mm, some minutes of a card, and classifiers trained on.

    python benchmarks/pretraining_on_gpu.py prepare --work DIR
    python benchmarks/pretraining_on_gpu.py run --work DIR --until "$(($(date +%s) + 400))"

People, held-out parts and tasks are those of `pretraining_study.py`; what differs is said here. Everybody is seen at
96³ voxels of 2 mm, which whole 32³ patches fit, so that every arm sees the same. `prepare` needs no GPU, and `run`
trains. `pretraining_on_gpu_scores.py` compares what comes of it.

Arms learn for about equal time. Each is tried for three epochs, beside the others as later, and is then given as many
as fit into SHARE_OF_ARM of the time there is, at most 150. A further seed has as many. Besides, before the first run it
was decided:
    rate, schedule, optimizer, weight decay and options as in `pretraining_study.py`; chosen on nothing here
    batch 8, for `hybrid` 16; where scans are contrasted 32, as memory allows now
    `fcmae` and `hybrid` compute what is masked as if whole, since a small network is then faster, with the same result
    the last epoch is handed on, whatever `selection` says of it
    classifiers: the recipe for few scans (20 epochs), after weights with all layers, rate 1e-3 and layer decay 0.7, or
    for AD also with the head alone (10 epochs); AD is told age and sex, from scratch, too
    `proxy_and_normal` is `proxy`, gone on with for each fold of AD for GO_ON epochs at 1e-3, with the normal people
    whom that fold trains on besides the corpus, as docs/recipes.md does with age
    `proxy_unet_b` is the same objective for a network of another kind, AMAES' U-Net B, beside its own `scratch`
    `swinunetr` learns for one epoch, to see that it does; what it takes forbids more
Tasks: sex and age of people who are not in the corpus, learned from a quarter of the training people and, where time
is left, from all; AD against normal from all. Gains are paired, over training from scratch by the same network.

Jobs run several at once, most important first, until time is up; what is in the log is not run again. Its rows say on
which card they were computed, and how many seconds training took.
"""

import argparse
import functools
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import brain_age
import pandas as pd
import pretraining_study as study
import warm
from compiled_kernels import compiled_beside
from oasis_ad import DEFAULT_DATA, EPOCH_SECONDS, import_task
from pipeline import dataset_folder, run_command, set_options, use_folders
from pretraining_study import AD, AGE, COHORTS, COLUMNS, CORPUS, PRETRAINER, UNSEEN, Arm, prepared_folder, write_plans
from worker_pool import Job, run_jobs

from adnext_plugin.cli import pretrain as cli_pretrain
from adnext_plugin.environment import environment_with
from adnext_plugin.evaluation.studies.crossval import of_subjects
from adnext_plugin.evaluation.subjects.values import OfSubjects
from adnext_plugin.evaluation.uncertainty.intervals import estimates, resamples_of
from adnext_plugin.files import read_json, write_json
from adnext_plugin.paths import PLANS_NAME, SPLITS_FILE, run_name
from adnext_plugin.plans.advice import SMALL
from adnext_plugin.records import to_json
from adnext_plugin.subjects import read_dataset
from adnext_plugin.trainers.self_supervised import SelfSupervisedTrainer
from adnext_plugin.trainers.variants.small import OPTIONS

PRESET = Path(__file__).parent / "pretraining_fine_plan.json"
LOG = "pretraining_on_gpu.jsonl"
AND_NORMAL = "proxy_and_normal"
NORMAL = (314, "CorpusAndNormal")
SIZE = (96, 96, 96)
CONFIGURATION = "3d_fullres"
FOLDS = 4
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {  # of an arm's `stem`: trainer, plans of tasks, network
    "convolutional": ("ADNeXtTrainer_T_Small", PLANS_NAME, {"name": "adnext_t", "options": OPTIONS}),
    "patch": ("ADNeXtTrainer_T_Small", "Plans_patch", {"name": "adnext_t", "options": {**OPTIONS, "stem": "patch"}}),
    "unet_b": ("ADNeXtTrainer", "Plans_unet_b", {"name": "unet_b"}),
    "swin": ("ADNeXtTrainer", "Plans_swin", {"name": "swin_unetr_48"}),
}
SHARE_OF_ARM = 0.15  # of the time there is, for which each arm learns
TRIED_EPOCHS = 3  # of which the last is timed
MOST_EPOCHS = 150
GO_ON = 8
DENSE = {"sparse_backend": "masked_dense"}
CONTRASTED = {"batch_size": 32, "augmentation": "dufumier"}
ARMS = {
    name: replace(study.ARMS[name], sees_whole_patches=False)
    for name in ("proxy", "fcmae", "contrastive", "amaes", "hybrid", "simclr")
}
# dense and recorded as a graph, small networks are faster than sparse, with the same result
ARMS["fcmae"] = replace(ARMS["fcmae"], options=DENSE)
ARMS["hybrid"] = replace(ARMS["hybrid"], options={**ARMS["hybrid"].options, "masked_options": DENSE})
ARMS["amaes"] = replace(ARMS["amaes"], options={})  # whole scans, as all else
for contrasting in ("contrastive", "simclr"):
    ARMS[contrasting] = replace(ARMS[contrasting], settings=CONTRASTED)
ARMS["proxy_unet_b"] = replace(ARMS["proxy"], stem="unet_b")
SWIN = Arm(objective="swinunetr", epochs=1, settings={"batch_size": 2, "warmup_epochs": 0}, stem="swin")
TASKS: dict[str, tuple[tuple[int, str], list[str]]] = {  # the dataset, settings
    "sex_25": (UNSEEN, ["train_fraction=0.25"]),
    "age_25": (AGE, ["train_fraction=0.25"]),
    "ad": (AD, ['covariates=["age","sex"]']),
    "sex_100": (UNSEEN, []),
    "age_100": (AGE, []),
}
PREDICTIONS = "predictions"  # folder of those that are brought back


def main() -> None:
    """Prepare, or run."""
    arguments = _parse()
    use_folders(arguments.work)
    if arguments.what == "prepare":
        _prepare(arguments.work, Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA)))
    else:
        warm.begin_again_with_one_thread()
        sys.exit(min(_run(arguments), 1))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "run"])
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--until", type=float, default=time.time() + 400, help="as of date +%%s (default: in 400 s)")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--smoke", action="store_true", help="every kind of command once, for an epoch or two")
    parser.add_argument("--results", type=Path, help="folder for the log and all that is to be kept (default: WORK)")
    return parser.parse_args()


# ------------------------------------------------------------------ data


def _prepare(work: Path, data: Path) -> None:
    brain_age.PRESET = PRESET
    people = study.people_of(data)
    corpus, unseen = people[people["in_corpus"]], people[~people["in_corpus"]]
    kept = ["--unlabelled", "--keep", "brain_share,ventricles_ml"]
    brain_age.prepare(UNSEEN, unseen, work, [*COLUMNS, "--target", "sex", "--keep", "age_of_normal,eTIV,nWBV"])
    if not (Path(os.environ["nnUNet_raw"]) / dataset_folder(*AD)).is_dir():
        import_task("ad", work)
    run_command("adnext_plan_and_preprocess", "-d", str(AD[0]), "--preset", str(PRESET))
    brain_age.prepare(CORPUS, corpus, work, [*COLUMNS, *kept])
    splits = study.splits_of_corpus(prepared_folder(CORPUS))
    write_json(splits, prepared_folder(CORPUS) / SPLITS_FILE)
    person_of = pd.read_csv(prepared_folder(CORPUS) / "subjects.csv").set_index("case_id")["subject_id"]
    held_out = corpus[corpus["subject_id"].isin(person_of[splits[0]["val"]])]
    brain_age.prepare(COHORTS, held_out, work, [*COLUMNS, "--unlabelled"])
    without_age = [word for word in COLUMNS if word not in ("--age-column", "age")]
    normal = unseen[unseen["age_of_normal"].notna()]
    brain_age.prepare(AGE, normal, work, [*without_age, "--regress", "age_of_normal"])
    task = pd.read_csv(prepared_folder(AD) / "subjects.csv")
    is_old = people["subject_id"].isin(task.loc[task["diagnosis"] == "CN", "subject_id"]) & (people["session"] == "MR1")
    brain_age.prepare(NORMAL, pd.concat([corpus, people[is_old]]), work, [*COLUMNS, *kept])
    of_task = brain_age.task_splits(prepared_folder(NORMAL), prepared_folder(AD))
    write_json(of_task, prepared_folder(NORMAL) / SPLITS_FILE)


def _write_all_plans(smoke: bool) -> None:
    for name, arm in (*ARMS.items(), ("swinunetr", SWIN)):
        write_plans(CORPUS, PLANS_NAME, f"Plans_{name}", NETWORKS[arm.stem][2], _pretraining(name, arm, smoke))
    go_on = {**_pretraining("proxy", ARMS["proxy"], smoke), "learning_rate": 1e-3, "epochs": 1 if smoke else GO_ON}
    go_on |= {"warmup_epochs": 0} if smoke else {}
    write_plans(NORMAL, PLANS_NAME, "Plans_proxy", NETWORKS["convolutional"][2], go_on)
    for _, plans, network in NETWORKS.values():
        for dataset in (UNSEEN, COHORTS, AD, AGE):
            if plans != PLANS_NAME:
                write_plans(dataset, PLANS_NAME, plans, network)
                path = prepared_folder(dataset) / f"{plans}.json"
                content = read_json(path)
                content["configurations"][CONFIGURATION]["adnext"]["training"] = to_json(SMALL)
                write_json(content, path)


def _pretraining(name: str, arm: Arm, smoke: bool) -> dict[str, Any]:
    options = {"objective": arm.objective, "options": arm.options, "epochs": 2 if smoke else arm.epochs}
    return {**study.COMMON, **options, **arm.settings}


# ------------------------------------------------------------------ jobs


def _run(arguments: argparse.Namespace) -> int:
    until = time.monotonic() + arguments.until - time.time()
    results = arguments.results or arguments.work
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # or the driver would be begun before processes are forked
    os.environ["ADNEXT_KERNELS"] = "triton"  # every run would measure anew which tiles are fastest
    batches = [("float32", 8), ("bfloat16", 8), ("float32", 16)]
    with compiled_beside(NETWORKS["convolutional"][2], SIZE, batches, arguments.device):
        _write_all_plans(arguments.smoke)
        modules = [f"adnext_plugin.cli.{name}" for name in ("pretrain", "train", "probe", "audit")]
        warm.warm_up([*modules, "adnext_plugin.trainers.labelled", "adnext_plugin.networks.families.unet"])
        warm.warm_up(["matplotlib.pyplot"])
    log = results / LOG
    return run_jobs(list(Jobs(arguments, results).all()), arguments.processes, until, log, results / "logs")


class Jobs:
    """All jobs, most important first.

    Args:
        arguments: of the command line.
        results: folder for what is to be kept.
    """

    def __init__(self, arguments: argparse.Namespace, results: Path) -> None:
        self._work, self._results, self._smoke = arguments.work, results, arguments.smoke
        self._seeds = arguments.seeds[:1] if arguments.smoke else arguments.seeds
        self._device = ["-device", arguments.device]
        self._seconds = arguments.until - time.time()

    def all(self) -> Iterator[Job]:
        """Of one seed after the other."""
        main = list(ARMS)[:-1]
        few, tasks = ["sex_25", "age_25"], ["sex_25", "age_25", "ad"]
        first = self._seeds[0]
        if self._smoke:
            yield from self.of_every_kind(first)
            return
        others = [name for name in main if name != "proxy"]
        yield from (self.pretrain(name, first) for name in main)
        yield from (self.audit(dataset) for dataset in (UNSEEN, AGE, AD))
        yield from (self.scratch("convolutional", task, first) for task in few)
        yield from (self.finetune(name, task, "whole", first) for name in main for task in few)
        yield from (self.scratch("patch", task, first) for task in few)
        yield self.scratch("convolutional", "ad", first)
        yield self.finetune("proxy", "ad", "whole", first)
        yield self.go_on(first)
        yield from (self.finetune(name, "ad", "head", first) for name in (AND_NORMAL, "proxy"))
        yield from (self.probe(name, first) for name in main)
        yield from (self.finetune(name, "ad", "whole", first) for name in others)
        for seed in self._seeds[1:]:
            yield self.pretrain("proxy", seed)
            yield from (self.scratch("convolutional", task, seed) for task in tasks)
            yield from (self.finetune("proxy", task, "whole", seed) for task in tasks)
        yield self.scratch("patch", "ad", first)
        yield from self.second_network(first)
        for seed in self._seeds[1:]:
            yield from self.further_seed(seed, others, tasks)
        yield from (self.finetune(name, "ad", "head", first) for name in others)
        for task in ("sex_100", "age_100"):
            yield from (self.scratch(stem, task, first) for stem in ("convolutional", "patch"))
            yield from (self.finetune(name, task, "whole", first) for name in main)
        yield self.swinunetr(first)

    def of_every_kind(self, seed: int) -> Iterator[Job]:
        """One job of each."""
        yield from (self.pretrain(name, seed) for name in ("proxy", "fcmae", "contrastive", "amaes"))
        yield from (self.scratch("convolutional", task, seed) for task in ("ad", "age_25"))
        yield self.probe("proxy", seed)
        yield self.finetune("proxy", "sex_25", "whole", seed)
        yield self.go_on(seed)
        yield self.finetune(AND_NORMAL, "ad", "head", seed)
        yield from (self.pretrain(name, seed) for name in ("hybrid", "proxy_unet_b", "swinunetr"))

    def second_network(self, seed: int) -> Iterator[Job]:
        """The supervised objective for a network of another kind."""
        yield self.pretrain("proxy_unet_b", seed)
        yield from (self.scratch("unet_b", task, seed) for task in ("sex_25", "age_25"))
        yield from (self.finetune("proxy_unet_b", task, "whole", seed) for task in ("sex_25", "age_25"))

    def further_seed(self, seed: int, others: Sequence[str], tasks: Sequence[str]) -> Iterator[Job]:
        """What is left of a further seed, whose supervised arm there is already."""
        yield self.probe("proxy", seed)
        yield self.go_on(seed)
        yield from (self.finetune(name, "ad", "head", seed) for name in (AND_NORMAL, "proxy"))
        yield from (self.pretrain(name, seed) for name in others)
        yield from (self.scratch("patch", task, seed) for task in tasks)
        yield from (self.probe(name, seed) for name in others)
        yield from (self.finetune(name, task, "whole", seed) for name in others for task in tasks)

    # -------------------------------------------------------------- kinds of jobs

    def pretrain(self, name: str, seed: int) -> Job:
        """An arm, with held-out figures."""
        words = ["pretrain", str(CORPUS[0]), CONFIGURATION, "0", "-tr", PRETRAINER, "-p", f"Plans_{name}"]
        words += ["--seed", str(seed), *self._device]
        fold = self._pretrained(name, seed)
        return self._job(
            {"run": "pretrain", "arm": name, "seed": seed},
            [lambda: [*words, "--set", f"epochs={self._epochs(name, words, fold)}", *self._short()]],
            fold.parents[2],
            found=lambda: [self._found_of_pretraining(name, seed, fold)],
        )

    def audit(self, dataset: tuple[int, str]) -> Job:
        """What every run would look at, looked at once."""
        return self._job({"run": "audit", "task": dataset[1]}, [["audit", str(dataset[0])]], self._work / "audited")

    def swinunetr(self, seed: int) -> Job:
        """One epoch."""
        return self.pretrain("swinunetr", seed)

    def go_on(self, seed: int) -> Job:
        """The supervised arm with each fold's own normal people."""
        words = ["-tr", PRETRAINER, "-p", "Plans_proxy", "--seed", str(seed), *self._device]
        weights = self._pretrained("proxy", seed) / "checkpoint_final.pth"
        home = self._work / "nnUNet_results" / f"seed_{seed}"
        run = home / dataset_folder(*NORMAL) / _run_of(PRETRAINER, "Plans_proxy")
        summaries = [run / f"fold_{k}" / "validation" / "summary.json" for k in range(1 if self._smoke else FOLDS)]
        return self._job(
            {"run": "pretrain", "arm": AND_NORMAL, "seed": seed},
            [
                ["pretrain", str(NORMAL[0]), CONFIGURATION, str(k), *words, "-pretrained_weights", str(weights)]
                for k in range(len(summaries))
            ],
            home,
            needs=(weights,),
            found=lambda: [{"fold": fold, "held_out": read_json(path)} for fold, path in enumerate(summaries)],
        )

    def probe(self, name: str, seed: int) -> Job:
        """Linear models of an arm's frozen features."""
        trainer, plans, _ = NETWORKS[ARMS[name].stem]
        fold = self._pretrained(name, seed)
        weights = fold / "checkpoint_final.pth"
        tasks = dict(list(study.PROBES.items())[:1]) if self._smoke else study.PROBES
        commands, outputs = [], {}
        for task, (dataset, columns, baseline) in tasks.items():
            outputs[task] = fold / f"probe_{task}.json"
            words = ["probe", str(dataset[0]), "-tr", trainer, "-p", plans, "--seed", str(seed), *self._device]
            words += ["--columns", *columns, "--baseline", baseline, "-o", str(outputs[task])]
            commands.append([*words, "-pretrained_weights", str(weights)])
        return self._job(
            {"run": "probe", "arm": name, "seed": seed},
            commands,
            fold.parents[2],
            needs=(weights,),
            found=lambda: [{"task": task, **_of_probe(output)} for task, output in outputs.items()],
        )

    def scratch(self, stem: str, task: str, seed: int) -> Job:
        """A classifier from no weights."""
        return self._classifier(f"{study.SCRATCH}{stem}", stem, task, "scratch", seed, None)

    def finetune(self, name: str, task: str, how: str, seed: int) -> Job:
        """A classifier from an arm's weights."""
        if name == AND_NORMAL:
            run = self._work / "nnUNet_results" / f"seed_{seed}" / dataset_folder(*NORMAL)
            weights = run / _run_of(PRETRAINER, "Plans_proxy") / "fold_{fold}" / "checkpoint_final.pth"
            return self._classifier(name, "convolutional", task, how, seed, weights)
        weights = self._pretrained(name, seed) / "checkpoint_final.pth"
        return self._classifier(name, ARMS[name].stem, task, how, seed, weights)

    def _classifier(self, name: str, stem: str, task: str, how: str, seed: int, weights: Path | None) -> Job:
        trainer, plans, _ = NETWORKS[stem]
        dataset, settings = TASKS[task]
        start = [] if weights is None else ["-pretrained_weights", str(weights)]
        words = ["-tr", trainer, "-p", plans, "--seed", str(seed), *self._device, *start]
        words += [*set_options([*settings, *study.HOW[how]]), *self._short()]
        home = self._work / "finetuned" / f"{task}_{name}_{how}_{seed}"
        run = home / dataset_folder(*dataset) / _run_of(trainer, plans)
        folds = 1 if self._smoke else FOLDS
        needs = () if weights is None else tuple(Path(str(weights).format(fold=k)) for k in range(folds))
        return self._job(
            {"run": "finetune", "arm": name, "seed": seed, "task": task, "how": how},
            [["train", str(dataset[0]), CONFIGURATION, str(fold), *words] for fold in range(folds)],
            home,
            needs=needs,
            found=functools.partial(self._found_of_classifier, run, home.name, dataset, folds),
        )

    def _epochs(self, name: str, words: list[str], fold: Path) -> int:
        """How many epochs fit into an arm's time; those of the first seed where there is one."""
        if name == "swinunetr":
            return SWIN.epochs
        if (fold / "run.json").is_file():  # it was begun
            return int(read_json(fold / "run.json")["settings"]["epochs"])
        first = self._pretrained(name, self._seeds[0]) / "run.json"
        if first.is_file():
            return int(read_json(first)["settings"]["epochs"])
        tried = self._work / "tried"
        with environment_with(nnUNet_results=str(tried)), _nobody_judged():
            short = ["--restart", "--set", f"epochs={TRIED_EPOCHS}", "--set", "warmup_epochs=0"]
            if cli_pretrain.main([*words[1:], *short]):
                raise RuntimeError(f"{name} could not be tried")
        seconds = _seconds_of_epochs(tried / fold.relative_to(fold.parents[2]))[-1]
        epochs = round(SHARE_OF_ARM * self._seconds / max(seconds, 1e-3))
        print(f"An epoch takes {seconds} s", flush=True)
        return max(TRIED_EPOCHS, min(MOST_EPOCHS, epochs))

    # -------------------------------------------------------------- what was found

    def _found_of_pretraining(self, name: str, seed: int, fold: Path) -> dict[str, Any]:
        kept = self._results / "pretrained" / f"{name}_{seed}"
        kept.mkdir(parents=True, exist_ok=True)
        for path in [*(fold / "validation").glob("*.png"), *fold.glob("training_log_*.txt"), fold / "progress.png"]:
            if path.is_file():
                shutil.copy(path, kept)
        return {
            "settings": read_json(fold / "run.json")["settings"],
            "training_seconds": _training_seconds(fold),
            "held_out": read_json(fold / "validation" / "summary.json"),
            "made_by": _made_by(fold),
        }

    def _found_of_classifier(self, run: Path, name: str, dataset: tuple[int, str], folds: int) -> list[dict[str, Any]]:
        kept = self._results / PREDICTIONS / name
        kept.mkdir(parents=True, exist_ok=True)
        for fold in range(folds):
            shutil.copy(run / f"fold_{fold}" / "validation" / "predictions.csv", kept / f"fold_{fold}.csv")
        scores = {} if folds < FOLDS else vars(_primary(answers_in(kept, dataset)))
        seconds = sum(_training_seconds(run / f"fold_{fold}") for fold in range(folds))
        return [{"score": scores, "training_seconds": round(seconds, 1), "made_by": _made_by(run / "fold_0")}]

    # -------------------------------------------------------------- private

    def _job(self, key: dict[str, Any], commands: list[list[str]], results: Path, **more: Any) -> Job:
        return Job(key=key, commands=commands, results=results, **more)

    def _pretrained(self, name: str, seed: int) -> Path:
        run = _run_of(PRETRAINER, f"Plans_{name}")
        return self._work / "nnUNet_results" / f"seed_{seed}" / dataset_folder(*CORPUS) / run / "fold_0"

    def _short(self) -> list[str]:
        return ["--set", "epochs=2", "--set", "warmup_epochs=0"] if self._smoke else []


def _run_of(trainer: str, plans: str) -> str:
    return run_name(trainer, plans, CONFIGURATION)


def _made_by(fold: Path) -> dict[str, Any]:
    return {name: value for name, value in read_json(fold / "run.json").items() if name != "settings"}


def _training_seconds(fold: Path) -> float:
    return round(sum(_seconds_of_epochs(fold)), 1)


def _seconds_of_epochs(fold: Path) -> list[float]:
    logs = "".join(path.read_text() for path in sorted(fold.glob("training_log_*.txt")))
    return [float(seconds) for seconds in re.findall(EPOCH_SECONDS, logs)]


@contextmanager
def _nobody_judged() -> Iterator[None]:
    """Leave out what comes after the last epoch."""
    judged = SelfSupervisedTrainer.perform_actual_validation
    SelfSupervisedTrainer.perform_actual_validation = lambda self, save_probabilities=False: None  # type: ignore
    try:
        yield
    finally:
        SelfSupervisedTrainer.perform_actual_validation = judged  # type: ignore[method-assign]


def _of_probe(output: Path) -> dict[str, Any]:
    found = read_json(output)
    return {name: found[name] for name in ("columns", "reliability")}


def answers_in(kept: Path, dataset: tuple[int, str]) -> OfSubjects:
    """What a classifier has said of people held out, from the tables of its folds."""
    task, _ = read_dataset(prepared_folder(dataset))
    return of_subjects(pd.concat([pd.read_csv(path) for path in sorted(kept.glob("fold_*.csv"))]), task)


def _primary(answers: OfSubjects) -> Any:
    return estimates(answers, resamples_of(answers))[answers.primary]


if __name__ == "__main__":
    main()
