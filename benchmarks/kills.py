"""Kill every command at random moments, run it again, and compare its files with those of one that was not killed.

    python benchmarks/kills.py --work DIR --kills 1000

A tiny cohort goes through import, planning, quality, merge, training, cross-validation, pre-training, evaluation,
report, export, install and prediction. A trial begins from the files before a command, runs it and kills it, up to
ten times in a row, with SIGKILL, SIGTERM and SIGINT in turn. Then the same command runs to its end, and every file
of the project is compared with a run that was not disturbed: one more, one less or another hash is a failure. What is
known to differ is left out: logs of training, whose names and lines are times, and the times of epochs in checkpoints.

Every trial is a line in DIR/trials.jsonl, so that the benchmark itself may be stopped and started again. `--dry` leaves
benchmarks/results/kills.json, which sums them up, as it is.
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import warm

RESULT = Path(__file__).parent / "results" / "kills.json"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
KILLED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGINT)
KILLS_PER_TRIAL = 10
RUN = "nnUNet_results/Dataset301_Toy/ADNeXtTrainer_T__ADNeXtPlans__3d_fullres"
TRAINER = ("-tr", "ADNeXtTrainer_T")
TIMES = ("epoch_start_timestamps", "epoch_end_timestamps")
FINISHED = "exists; choose another"  # what a command says that was killed after its last file was in place


@dataclass(frozen=True, kw_only=True)
class Task:
    """A command, the name of the state of the folders that it begins with, and how many kills of 100 it gets."""

    command: tuple[str, ...]
    begins_with: str
    share: int
    removed: tuple[str, ...] = ()  # before it begins


def tasks(home: Path) -> dict[str, Task]:
    """All commands, by name."""
    table = ("--table", str(home / "source" / "table.csv"), "--target", "diagnosis", "--label-map", "CN=CN", "AD=AD")
    preset = ("--preset", str(home / "source" / "preset.json"))
    pretrain = ("-tr", "ADNeXtPretrainer", "--set", "objective=contrastive", "--set", "warmup_epochs=0")
    return {
        "import": Task(command=("import_dataset", "301", "Toy", *table, "-np", "1"), begins_with="empty", share=10),
        "plan_and_preprocess": Task(
            command=("plan_and_preprocess", "-d", "301", "-np", "1", *preset), begins_with="import", share=10
        ),
        "quality": Task(command=("quality", "-d", "301", "-np", "1"), begins_with="plan_and_preprocess", share=10),
        "merge": Task(command=("merge", "303", "Both", "301", "302"), begins_with="two", share=8),
        "train": Task(
            command=("train", "301", "3d_fullres", "0", *TRAINER, *warm.TRAINING),
            begins_with="plan_and_preprocess",
            share=12,
        ),
        "cv": Task(
            command=("train", "301", "3d_fullres", "cv", *TRAINER, *warm.TRAINING),
            begins_with="plan_and_preprocess",
            share=4,
        ),
        "pretrain": Task(
            command=("pretrain", "301", "3d_fullres", *pretrain, *warm.TRAINING),
            begins_with="plan_and_preprocess",
            share=8,
        ),
        "evaluate": Task(
            command=("evaluate", "301", *TRAINER, "--resamples", "100"),
            begins_with="cv",
            share=8,
            removed=(f"{RUN}/crossval_results",),
        ),
        "report": Task(
            command=("report", "301", *TRAINER),
            begins_with="cv",
            share=8,
            removed=(f"{RUN}/crossval_results/report.html",),
        ),
        "export": Task(
            command=("export", str(home / RUN), "-o", str(home / "model.zip"), "-device", "cpu"),
            begins_with="cv",
            share=7,
        ),
        "install": Task(command=("install", str(home / "model.zip")), begins_with="export", share=7),
        "predict": Task(
            command=(
                *("predict", "-i", str(home / "source" / "sub00.nii.gz"), "-o", str(home / "answers")),
                *("-m", str(home / RUN), "-device", "cpu", "-np", "1"),
            ),
            begins_with="cv",
            share=8,
        ),
    }


def main() -> None:
    """Run the benchmark and exit with 1 if a trial did not recover."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder to work in, which is made")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--commands", nargs="+", help="these alone; names as in the result")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after as many, to go on another time")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--dry", action="store_true", help="write no result")
    arguments = parser.parse_args()
    warm.begin_again_with_one_thread()
    stop = time.monotonic() + 60 * arguments.minutes
    bench = Bench(arguments.work.absolute(), arguments.commands)
    bench.prepare()
    for line in bench.trials(arguments.kills, arguments.seed, stop):
        print(json.dumps(line), flush=True)
    report = bench.report()
    print(json.dumps(report, indent=1))
    if not arguments.dry:
        RESULT.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(report["not_recovered"] > 0)


class Bench:
    """The folders of the benchmark: `home`, where commands run, and `states`, copies of it between commands."""

    def __init__(self, work: Path, names: Sequence[str] | None) -> None:
        self.home, self._states, self._log = work / "home", work / "states", work / "log.txt"
        self._lines, self._modules = work / "trials.jsonl", work / "modules.json"
        self._tasks = tasks(self.home)
        self._names = list(names or self._tasks)

    def prepare(self) -> None:
        """Run every command once undisturbed, keep what it leaves, and import whatever it needed."""
        self._states.mkdir(parents=True, exist_ok=True)
        if self._modules.is_file():
            warm.warm_up(json.loads(self._modules.read_text()))
        if not (self._states / "empty").is_dir():
            shutil.rmtree(self.home, ignore_errors=True)
            for folder in warm.folders(self.home).values():
                Path(folder).mkdir(parents=True)
            # drawn at random otherwise
            key = self.home / "nnUNet_preprocessed" / ".adnext_key.json"
            key.write_text(json.dumps({"key": "5a" * 32}))
            key.chmod(0o600)
            warm.write_cohort(self.home / "source")
            self._keep("empty")
        for name, task in self._tasks.items():
            if task.begins_with == "two" and not (self._states / "two").is_dir():
                self._make_two()
            if not (self._states / f"{name}.json").is_file():
                self._undisturbed(name, task)
        warm.warm_up(json.loads(self._modules.read_text()))

    def trials(self, kills: int, seed: int, stop: float) -> Iterator[dict]:
        """Go on with the trials until there are enough kills or the time is over; each as its line."""
        done: Counter[str] = Counter()
        count: Counter[str] = Counter()
        for line in self._read():
            done[line["command"]] += len(line["kills"])
            count[line["command"]] += 1
        total = sum(task.share for task in self._tasks.values())
        wanted = {name: -(-kills * self._tasks[name].share // total) for name in self._names}
        while time.monotonic() < stop and (left := [name for name in self._names if done[name] < wanted[name]]):
            name = min(left, key=lambda one: done[one] / wanted[one])
            draw = random.Random(f"{seed} {name} {count[name]}")
            line = self._trial(name, draw, sum(done.values()))
            done[name] += len(line["kills"])
            count[name] += 1
            with self._lines.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            yield line

    def report(self) -> dict:
        """What the trials so far come to."""
        from adnext_plugin.environment import usable_cpus
        from adnext_plugin.training.provenance import provenance

        lines = self._read()
        for line in lines:
            line["kills"] = [kill for kill in line["kills"] if kill["code"] in KILLED]
        by_command = {
            name: {
                "kills": sum(len(line["kills"]) for line in lines if line["command"] == name),
                "trials": sum(line["command"] == name for line in lines),
                "recovered": sum(line["command"] == name and line["recovered"] for line in lines),
            }
            for name in self._names
        }
        kills = [kill for line in lines for kill in line["kills"]]
        return {
            "kills": len(kills),
            "by_signal": dict(Counter(kill["signal"] for kill in kills)),
            "by_exit_code": dict(sorted(Counter(str(kill["code"]) for kill in kills).items())),
            "trials": len(lines),
            "not_recovered": sum(not line["recovered"] for line in lines),
            "by_command": by_command,
            "processors": usable_cpus(),
            "made_by": provenance(),
        }

    def _undisturbed(self, name: str, task: Task) -> None:
        """Run a command to its end twice: what differs between the two cannot be compared."""
        found = []
        for _ in range(2):
            self._restore(task)
            ended = warm.run(task.command, self.home, self._log, self._modules.with_suffix(".new"))
            if ended.code:
                sys.exit(f"{name} ended with {ended.code}:\n{ended.text}")
            known = set(json.loads(self._modules.read_text())) if self._modules.is_file() else set()
            known |= set(json.loads(self._modules.with_suffix(".new").read_text()))
            self._modules.write_text(json.dumps(sorted(known)))
            found.append(self._hashes())
            warm.warm_up(sorted(known))
        if different := _different(*found):
            sys.exit(f"{name} leaves other files each time: {different}")
        self._keep(name)
        expected = {"seconds": ended.seconds, "files": found[0]}
        (self._states / f"{name}.json").write_text(json.dumps(expected))

    def _make_two(self) -> None:
        self._restore(self._tasks["quality"])
        table = ("--table", str(self.home / "source" / "table.csv"), "--unlabelled", "-np", "1", "--where", "age<66")
        preset = ("--preset", str(self.home / "source" / "preset.json"))
        for command in (
            ("import_dataset", "302", "Few", *table),
            ("plan_and_preprocess", "-d", "302", "-np", "1", *preset),
        ):
            ended = warm.run(command, self.home, self._log)
            if ended.code:
                sys.exit(f"{command} ended with {ended.code}:\n{ended.text}")
        self._keep("two")

    def _trial(self, name: str, draw: random.Random, kills_before: int) -> dict:
        task = self._tasks[name]
        expected = json.loads((self._states / f"{name}.json").read_text())
        self._restore(task)
        kills = []
        alone = None  # how long the command takes that nobody kills
        while len(kills) < KILLS_PER_TRIAL:
            number = SIGNALS[(kills_before + len(kills)) % len(SIGNALS)]
            after = draw.uniform(0, expected["seconds"])
            ended = warm.run_and_kill(task.command, self.home, self._log, number, after)
            if not ended.was_killed or ended.code not in KILLED:
                alone = ended.seconds if not kills and ended.code == 0 else None
                break  # it was over, or as good as over
            kills.append({"signal": number.name, "after_s": round(after, 3), "code": ended.code})
        ended = warm.run(task.command, self.home, self._log)
        different = _different(expected["files"], self._hashes())
        is_finished = ended.code == 0 or (ended.code == 2 and FINISHED in ended.text)
        recovered = is_finished and not different
        line = {"command": name, "kills": kills, "code": ended.code, "recovered": recovered, "different": different}
        if not recovered:
            line["text"] = ended.text[-2000:]
        if recovered and alone is not None:  # the machine is faster than it was when the command was timed
            expected["seconds"] = min(expected["seconds"], alone)
            (self._states / f"{name}.json").write_text(json.dumps(expected))
        return line

    def _restore(self, task: Task) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self._states / task.begins_with, self.home, symlinks=True)
        for name in task.removed:
            path = self.home / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _keep(self, name: str) -> None:
        shutil.rmtree(self._states / name, ignore_errors=True)
        shutil.copytree(self.home, self._states / name, symlinks=True)

    def _hashes(self) -> dict[str, str]:
        """Every file below nnU-Net's folders and beside them, and what is compared of it."""
        found = {}
        for path in sorted(self.home.rglob("*")):
            name = str(path.relative_to(self.home))
            if path.is_symlink():
                found[name] = str(path.readlink())
            elif path.is_dir():
                found[name] = "folder"
            elif not path.name.startswith("training_log_"):
                found[name] = _hash(path)
        return found

    def _read(self) -> list[dict]:
        if not self._lines.is_file():
            return []
        return [json.loads(line) for line in self._lines.read_text().splitlines()]


def _hash(path: Path) -> str:
    if path.suffix != ".pth":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    from adnext_plugin.training.weights import read_checkpoint

    content = read_checkpoint(path)
    logged = content["logging"]
    content["logging"] = {name: len(values) if name in TIMES else values for name, values in logged.items()}
    digest = hashlib.sha256()
    _add(content, digest)
    return digest.hexdigest()


def _add(content: object, digest: "hashlib._Hash") -> None:
    """Add nested content to a digest: names, numbers and the bytes of tensors, in their order."""
    if isinstance(content, dict):
        for name, value in content.items():
            digest.update(repr(name).encode())
            _add(value, digest)
    elif isinstance(content, (list, tuple)):
        digest.update(str(len(content)).encode())
        for value in content:
            _add(value, digest)
    elif hasattr(content, "numpy"):
        digest.update(f"{content.dtype} {tuple(content.shape)}".encode() + content.contiguous().numpy().tobytes())
    else:
        digest.update(repr(content).encode())


def _different(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Names of files that are too many, too few, or not the same."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))


if __name__ == "__main__":
    main()
