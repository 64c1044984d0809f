"""Every command on inputs that nobody should have made: it refuses them in one line, or does its work.

    python benchmarks/hostile.py --trials 10000 --seconds 500

A small world (scans, a prepared dataset, a cross-validated run, a bundle) is made once. Each trial takes a copy of it,
has one file changed by a fuzzer (`hostile_inputs.py`: JSON, table, image, bundle; or a command line is made up), and
runs a command in a process of its own. Counted are tracebacks, commands that take longer than a minute or are ended
by the system, files that come or change outside of what the command may write, planted code that was run, and control
characters that reach the terminal. Every trial is a function of its number and the seed. Run again, it goes on where
it stopped; `--only NUMBER` shows one trial.
"""

import argparse
import contextlib
import gc
import json
import os
import platform
import random
import re
import select
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

import hostile_inputs as inputs

RESULT = Path(__file__).with_name("results") / "hostile.json"
MAY_WRITE = (
    "out",
    f"preprocessed/{inputs.DATASET}",
    f"results/{inputs.DATASET}",
    "raw/Dataset007_New",
    "preprocessed/Dataset305_Both",
    "results/bundles",
    "results/permuted_",  # and a seed
    "results/seed_",
    "preprocessed/.adnext_key.json",
)
SECONDS = 60
BATCH = 20  # trials of one process
PRISTINE: dict[Path, dict[str, tuple[int, int, int]]] = {}  # the box as it is before a trial
# shares of the trials, the larger the sooner such a trial ends
KINDS = ("table", "bundle", "command line", "image", "json") * 2 + ("table", "bundle", "command line") * 2
KINDS += ("image", "table", "bundle", "table")
LINKED = (".pth", ".gz", ".b2nd", ".safetensors", ".png")  # never written in place
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
BAD = ("traceback", "hang", "crash", "outside", "code_run", "control_characters", "silent")
VARIABLES = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}
FAST = json.dumps({"epochs": 1, "warmup_epochs": 0, "augmentation": "none"})


def main() -> None:
    """Run trials that have not been run, and write the counts of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long; run again to go on")
    parser.add_argument("--work", type=Path, default=Path("hostile_work"), help="folder for the world and the trials")
    parser.add_argument(
        "--part", type=int, nargs=2, default=(0, 1), metavar=("K", "N"), help="every N-th trial from K on"
    )
    parser.add_argument("--only", type=int, help="run one trial and show what it prints")
    parser.add_argument("--result", type=Path, default=RESULT)
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    box = work / f"box_{arguments.part[0]}" / "deep" / "er"
    done = {found["number"] for found in read_trials(work)}
    numbers = [number for number in range(arguments.part[0], arguments.trials, arguments.part[1]) if number not in done]
    if arguments.only is None and not numbers:  # then nothing need be imported or made
        write_result(read_trials(work), arguments.seed, arguments.result)
        return
    commands = prepare_process(box)
    make_world(work / "world", commands)

    def trial(number: int) -> dict[str, Any]:
        return run_trial(number, arguments.seed, work / "world", box, commands)

    if arguments.only is not None:
        print(json.dumps(next(in_processes([arguments.only], trial)), indent=1))
        print((box.parent / "printed").read_text(errors="replace"))
        return
    started = time.monotonic()
    with (work / f"trials_{arguments.part[0]}.jsonl").open("a") as stream:
        for found in in_processes(numbers, trial):
            stream.write(json.dumps(found) + "\n")
            stream.flush()
            if time.monotonic() - started > arguments.seconds:
                break
    write_result(read_trials(work), arguments.seed, arguments.result)


def make_world(world: Path, commands: dict[str, Any]) -> None:
    """A cohort of eight, prepared, trained and exported by the commands, in forks; kept for later runs."""
    if (world / "model.zip").is_file():
        return
    shutil.rmtree(world, ignore_errors=True)
    world.mkdir(parents=True)
    import nibabel
    import numpy as np
    import pandas as pd

    generator = np.random.default_rng(0)
    rows = []
    for index in range(9):
        voxels = np.zeros((10, 10, 10), np.float32)
        voxels[1:9, 1:9, 1:9] = generator.normal(100, 10, (8, 8, 8))
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([8.0, 8, 8, 1])), world / f"s{index}.nii.gz")
        rows.append(
            (
                f"s{index % 8}",
                f"M{index // 8 * 12:02}",
                f"s{index}.nii.gz",
                "AD" if index % 2 else "CN",
                60 + index % 8,
                "MF"[index % 2],
            )
        )
    table = pd.DataFrame(rows[:8], columns=["subject", "session", "path", "diagnosis", "age", "sex"])
    table.to_csv(world / "table.csv", index=False)
    table.to_excel(world / "table.xlsx", index=False)
    preprocessing = {"input_size_voxels": [16, 16, 16], "spacing_mm": [5, 5, 5], "brain_extraction": "none"}
    (world / "preset.json").write_text(json.dumps({"preprocessing": preprocessing}))
    target = ["--target", "diagnosis"]
    train = ["adnext_train", "301", "3d_fullres", "cv", *inputs.TRAINER, "-device", "cpu"]
    for command in (
        ["adnext_import", "301", "Toy", "--table", "table.csv", *target, "-np", "1"],
        ["adnext_import", "302", "Victim", "--table", "table.csv", *target, "-np", "1"],
        ["adnext_plan_and_preprocess", "-d", "301", "302", "-np", "1", "--preset", "preset.json"],
        train,
        ["adnext_export", str(inputs.RESULTS), "-o", "model.zip", "-device", "cpu"],
    ):
        for folder in VARIABLES.values():
            (world / folder).mkdir(exist_ok=True)
        _run_in_fork(commands[command[0]], command[1:], world)


def _run_in_fork(command: Any, words: list[str], world: Path) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chdir(world)
            os.environ |= {name: str(world / folder) for name, folder in VARIABLES.items()}
            code = run_here(command, words, world / "printed")
        finally:  # the child is to do nothing else
            os._exit(code)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError(f"the world could not be made: {(world / 'printed').read_text(errors='replace')}")


def prepare_process(box: Path) -> dict[str, Any]:
    """Import all that commands import, so that trials can be forked from here; the functions of all commands."""
    os.environ |= {name: str(box / folder) for name, folder in VARIABLES.items()} | {"ADNEXT_SETTINGS": FAST}
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "PYTHONWARNINGS": "ignore"}
    found = {
        entry.name: entry.load() for entry in entry_points(group="console_scripts") if entry.name.startswith("adnext_")
    }
    package = Path(import_module("adnext_plugin").__path__[0])
    for path in sorted(package.rglob("*.py")):
        name = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        if "nnunet_hook" not in name and "minkowski" not in name and "hdbet" not in name:
            with contextlib.suppress(ImportError):
                import_module(name)
    import_module("nnunetv2.run.run_training")
    # what a command would import or compile when it is first needed; a fork inherits it
    recursive_find = import_module("nnunetv2.utilities.find_objects").recursive_find_trainer_class_by_name
    recursive_find("nnUNetTrainer")
    torch = import_module("torch")
    torch.nn.Conv3d(1, 2, 3)(torch.zeros(1, 1, 4, 4, 4)).sum().backward()
    gc.collect()
    gc.freeze()
    return found


def run_trial(number: int, seed: int, world: Path, box: Path, commands: dict[str, Any]) -> dict[str, Any]:
    """One trial, in this process: what was run, and what came of it."""
    draw = random.Random(f"{seed}-{number}")
    fresh_copy(world, box)
    os.chdir(box)
    kind, everything, printed_file = KINDS[number % len(KINDS)], box.parents[1], box.parent / "printed"
    command = make_up_command(draw, commands) if kind == "command line" else FUZZERS[kind](draw)
    before = state_of(everything)
    started = time.monotonic()
    status = run_here(commands[command[0]], command[1:], printed_file)
    seconds = time.monotonic() - started
    printed = printed_file.read_bytes().decode(errors="replace")
    problems = judge(status, printed)
    after = state_of(everything)
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    outside = sorted(path for path in changed if not may_write(path, box))
    problems += ["outside"] if outside else []
    problems += ["code_run"] if any(everything.rglob(inputs.CANARY)) else []
    last = printed.strip().splitlines()[-1][:300] if printed.strip() else ""
    return {
        "number": number,
        "kind": kind,
        "command": [word[:80] for word in command],
        "status": status,
        "seconds": round(seconds, 2),
        "problems": problems,
        **({"outside": outside[:3]} if outside else {}),
        **({"last": last} if problems else {}),
    }


FUZZERS: dict[str, inputs.Fuzzer] = {
    "json": inputs.fuzz_json,
    "table": inputs.fuzz_table,
    "image": inputs.fuzz_image,
    "bundle": inputs.fuzz_bundle,
}


def make_up_command(draw: random.Random, commands: dict[str, Any]) -> list[str]:
    """A command with options of its own and of others, and values that fit or do not."""
    name = draw.choice([one for one in commands if one not in ("adnext_ext_path",)])
    module = sys.modules[commands[name].__module__]
    options = (
        [
            (action.option_strings, action.choices, action.nargs)
            for action in module.build_parser()._actions
            if action.option_strings and action.option_strings[0] != "--debug"  # which shows tracebacks
        ]
        if hasattr(module, "build_parser")
        else []
    )
    texts = [text for text in inputs.TEXTS if "\0" not in text and "\ud800" not in text]
    values = [
        *texts,
        "301",
        "302",
        "3d_fullres",
        "cv",
        "all",
        "0",
        "-1",
        "1e9",
        "nan",
        "table.csv",
        "model.zip",
        "preset.json",
        str(inputs.RESULTS),
        "out",
        "raw",
        "ADNeXtTinyDenseNetTrainer",
        "cpu",
        "mps",
        "cuda",
        "epochs=0",
        "epochs=x",
        "seed=1",
        "=",
        "a=b",
        "diagnosis",
        "age",
    ]
    usual = {
        "adnext_train": ["301", "3d_fullres", "0"],
        "adnext_pretrain": ["301", "3d_fullres", "all"],
        "adnext_evaluate": ["301"],
        "adnext_predict": ["-i", "table.csv", "-o", "out"],
        "adnext_import": ["7", "New", "--table", "table.csv"],
        "adnext_install": ["model.zip"],
        "adnext_merge": ["305", "Both", "301", "302"],
        "adnext_export": [str(inputs.RESULTS)],
        "adnext_audit": ["301"],
        "adnext_compare": ["301", "ADNeXtTinyDenseNetTrainer"],
        "adnext_list": ["networks"],
        "adnext_report": ["301"],
        "adnext_quality": ["-d", "301"],
        "adnext_plan_and_preprocess": ["-d", "301"],
    }.get(name, [])
    words = [draw.choice(values) if draw.random() < 0.15 else word for word in usual] if draw.random() < 0.8 else []
    for _ in range(draw.choice((1, 1, 2, 3))):
        strings, choices, nargs = (
            draw.choice(options) if options and draw.random() < 0.9 else (["--absent", "-x"], None, None)
        )
        if strings[0] in (
            "--executor",
            "--processes",
            "-np",
            "--num-gpus",
            "--seeds",
            "--brain-extraction",
            "--alignment",
            "--bias-correction",
        ):
            words += [strings[0], draw.choice(("-1", "0", "x", "1e9", "", "nan"))]
            continue
        words.append(draw.choice(strings))
        if strings[0] in ("--into", "--output", "-o", "--work"):  # where its user wants a result is no attack
            words.append(draw.choice(("out", "out/a/b", "out/" + "x" * 300, "out/a\nb", "out/=", "out/ä")))
        elif nargs != 0:
            words += [
                draw.choice((*map(str, choices or ()), *values)) for _ in range(nargs if isinstance(nargs, int) else 1)
            ]
    # whatever is valid is to be small
    small = {
        "adnext_train": [*inputs.TRAINER, "-device", "cpu"],
        "adnext_pretrain": ["--set", "mask_ratio=x"],
        "adnext_demo": ["--absent"],
        "adnext_networks": ["--input-size", "8"],
    }
    return [name, *words, *small.get(name, [])]


def fresh_copy(world: Path, box: Path) -> None:
    """Put the world into the box; files that are never written in place are links to it."""
    everything = box.parents[1]
    pristine = PRISTINE.get(box)
    if pristine is None:
        shutil.rmtree(everything, ignore_errors=True)
        shutil.copytree(world, box, copy_function=link_or_copy)
        (box / "out").mkdir()
    else:  # what the trial before has changed
        now = state_of(everything)
        changed = sorted(path for path in pristine.keys() | now.keys() if pristine.get(path) != now.get(path))
        for path in reversed(changed):
            remove(Path(path))
        for path in changed:
            original = world / os.path.relpath(path, box)
            if path in pristine and (original.is_dir() or path == str(box / "out")):
                Path(path).mkdir()
            elif path in pristine:
                link_or_copy(str(original), path)
    PRISTINE[box] = state_of(everything)


def remove(path: Path) -> None:
    """Remove whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def link_or_copy(source: str, target: str) -> None:
    """A link to what is never written in place, a copy of the rest."""
    if source.endswith(LINKED):
        os.link(os.path.realpath(source), target)
    else:
        shutil.copy2(source, target, follow_symlinks=False)


def state_of(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, time and size of everything in a folder."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(root, name)  # noqa: PTH118  paths are many
            state = os.lstat(path)
            found[path] = (state.st_ino, state.st_mtime_ns, state.st_size) if name in files else (state.st_ino, 0, 0)
    return found


def may_write(path: str, box: Path) -> bool:
    """Whether a command may have made or changed a file."""
    inside = os.path.relpath(path, box)
    return path == str(box.parent / "printed") or any(
        inside == one or inside.startswith(f"{one}/") or (one.endswith("_") and inside.startswith(one))
        for one in MAY_WRITE
    )


def run_here(command: Any, words: list[str], printed: Path) -> int:
    """Run a command in this process, with what it prints in a file; its exit code."""
    environment, streams = dict(os.environ), (sys.stdout, sys.stderr)
    kept = os.dup(1), os.dup(2)
    descriptor = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1), os.dup2(descriptor, 2), os.close(descriptor)
    code: object = 1
    try:
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        sys.argv = ["adnext", *words]
        code = command(words)
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush(), sys.stderr.flush()
        sys.stdout, sys.stderr = streams
        os.dup2(kept[0], 1), os.dup2(kept[1], 2), os.close(kept[0]), os.close(kept[1])
        os.environ.clear()
        os.environ.update(environment)
    return code if isinstance(code, int) else 1


def in_processes(
    numbers: Iterable[int], trial: Callable[[int], dict[str, Any]], size: int = BATCH
) -> Iterator[dict[str, Any]]:
    """Run trials in forks of this process, some in each; one that a trial hangs in or dies of is replaced."""
    waiting = list(numbers)
    while waiting:
        batch, running = waiting[:size], None
        receiving, sending = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receiving)
            _work(batch, trial, sending)
        os.close(sending)
        received, hangs = b"", False
        while not hangs:
            hangs = not select.select([receiving], [], [], SECONDS)[0]
            chunk = b"" if hangs else os.read(receiving, 1 << 16)
            *lines, received = (received + chunk).split(b"\n")
            for line in map(json.loads, lines):
                running = line if isinstance(line, int) else None
                if isinstance(line, dict):
                    waiting.remove(line["number"])
                    yield line
            if not chunk:
                break
        if hangs:
            os.killpg(child, signal.SIGKILL)
        os.close(receiving)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status == 1:
            raise RuntimeError(f"the benchmark itself failed in trial {running}; its traceback is above")
        if running is not None:
            waiting.remove(running)
            problem = "hang" if hangs else "crash"
            yield {
                "number": running,
                "kind": KINDS[running % len(KINDS)],
                "command": [],
                "status": status,
                "seconds": SECONDS if hangs else 0,
                "problems": [problem],
                "last": "",
            }


def _work(batch: list[int], trial: Callable[[int], dict[str, Any]], sending: int) -> NoReturn:
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        for number in batch:
            os.write(sending, f"{number}\n".encode())
            os.write(sending, json.dumps(trial(number)).encode() + b"\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def judge(status: int, printed: str) -> list[str]:
    """What is wrong with how a command ended and what it printed."""
    problems = []
    if "Traceback (most recent call last)" in printed:
        problems.append("traceback")
    elif status == 2 and "error: " not in printed:
        problems.append("silent")
    if CONTROL.search(printed):
        problems.append("control_characters")
    return problems


def read_trials(work: Path) -> list[dict[str, Any]]:
    """Trials that have been run, by all processes."""
    lines = (line for path in sorted(work.glob("trials_*.jsonl")) for line in path.read_text().splitlines())
    return [json.loads(line) for line in lines]


def write_result(trials: list[dict[str, Any]], seed: int, path: Path) -> None:
    """The counts, and the trials that went wrong."""
    from adnext_plugin.training.provenance import provenance

    kinds = sorted({trial["kind"] for trial in trials})
    wrong = [trial for trial in trials if trial["problems"]]
    counts = Counter(problem for trial in trials for problem in trial["problems"])
    report = {
        "made_by": provenance(),
        "processor": platform.processor() or platform.machine(),
        "seed": seed,
        "trials": len(trials),
        **{problem: counts[problem] for problem in BAD},
        "by_kind": {
            kind: dict(Counter(str(trial["status"]) for trial in trials if trial["kind"] == kind).most_common())
            for kind in kinds
        },
        "seconds": round(sum(trial["seconds"] for trial in trials)),
        "wrong": wrong[:50],
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps({name: report[name] for name in ("trials", *BAD)}))


if __name__ == "__main__":
    main()
