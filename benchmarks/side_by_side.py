"""What benchmarks of training steps share: options, and a process of its own for each setting of the allocator."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from adnext_plugin.cpu_memory import keep_large_buffers
from adnext_plugin.training.provenance import provenance

T = TypeVar("T")
SIZES = {
    "T": ((2, 2, 6, 2), (16, 32, 64, 128)),
    "S": ((3, 3, 9, 3), (32, 64, 128, 256)),
    "B": ((3, 3, 27, 3), (64, 128, 256, 512)),
}


def new_parser(description: str, result: Path, choices: Sequence[str] = tuple(SIZES)) -> argparse.ArgumentParser:
    """A parser with the options that all have; `choices` are the networks to choose from."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=choices, default=list(choices))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--input-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--result", type=Path, default=result, help="file to write (default: %(default)s)")
    parser.add_argument("--dry", action="store_true", help="do not write the result file")
    parser.add_argument("--allocator", choices=["default", "kept"], help=argparse.SUPPRESS)
    return parser


def take_turns(arms: Mapping[str, Callable[[], T]], repeats: int) -> dict[str, list[T]]:
    """What each arm says of itself in every round; in one that goes before, which does not count, all are warmed up."""
    rounds = [{name: step() for name, step in arms.items()} for _ in range(repeats + 1)][1:]
    return {name: [said[name] for said in rounds] for name in arms}


def run(measure: Callable[[argparse.Namespace], list[dict]], arguments: argparse.Namespace) -> None:
    """Call `measure` in two child processes, one per setting of the allocator; print and write what it returns."""
    if arguments.allocator:
        if arguments.allocator == "kept":
            assert keep_large_buffers(), "large buffers can be kept with glibc only"
        torch.set_num_threads(arguments.threads)
        print(json.dumps(measure(arguments)))
        return
    report = {
        "made_by": provenance(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": arguments.threads,
        "allocators": {},
    }
    for allocator in ("default", "kept"):
        command = [sys.executable, *sys.argv, "--allocator", allocator]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        report["allocators"][allocator] = json.loads(done.stdout.splitlines()[-1])
    text = json.dumps(report, indent=1)
    print(text)
    if not arguments.dry:
        arguments.result.write_text(text + "\n")
