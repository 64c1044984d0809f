"""What a training step on a CPU costs beside other busy processes, as many as there are processors.

    python benchmarks/busy_cpu.py [--seconds 8] [--threads N] [--repeats 2]

Arms take turns, each in a process of its own: threads that spin while they wait (OpenMP's default) and threads that
sleep (OMP_WAIT_POLICY=PASSIVE, which this package's commands set), alone and beside endless loops that are started
here. A fair share is half of the processors: twice the time. Prints JSON, and writes it to
benchmarks/results/busy_cpu.json unless --dry; `load_before` tells whether the machine was idle.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "busy_cpu.json"
ARMS = {"spinning": {}, "sleeping": {"OMP_WAIT_POLICY": "PASSIVE"}}
STEPS = """
import statistics, sys, time
import torch
from adnext_plugin.networks.families.adnext import adnext_t

torch.set_num_threads(int(sys.argv[2]))
torch.manual_seed(0)
network = adnext_t(1, 2, (32, 32, 32), stem="convolutional", head_norm="batch").train()
optimizer = torch.optim.AdamW(network.parameters())
images, targets = torch.randn(8, 1, 32, 32, 32), torch.arange(8) % 2


def step():
    begun = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(network(images), targets).backward()
    optimizer.step()
    return time.perf_counter() - begun


step()
end, seconds = time.monotonic() + float(sys.argv[1]), []
while time.monotonic() < end or len(seconds) < 2:
    seconds.append(step())
print(statistics.mean(seconds), len(seconds))
"""


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="that an arm trains for")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="write no file")
    arguments = parser.parse_args()
    result = {"made_by": provenance(), **measured(arguments.seconds, arguments.threads, arguments.repeats)}
    print(json.dumps(result, indent=2))
    if not arguments.dry:
        RESULT.write_text(json.dumps(result, indent=2) + "\n")


def measured(seconds: float, threads: int, repeats: int) -> dict:
    """Seconds a step of every arm, and their ratios."""
    processors, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        for arm, variables in ARMS.items():
            found.setdefault(f"{arm}, alone", []).append(_seconds_a_step(seconds, threads, variables))
            with _competitors(processors):
                found.setdefault(f"{arm}, beside others", []).append(_seconds_a_step(seconds, threads, variables))
    step = {arm: statistics.median(values) for arm, values in found.items()}
    return {
        "processor": platform.processor() or platform.machine(),
        "processors": processors,
        "threads": threads,
        "competitors": processors,
        "load_before": round(load, 2),
        "seconds_a_step": step,
        "all_seconds_a_step": found,
        "times_slower_beside_others": {arm: step[f"{arm}, beside others"] / step[f"{arm}, alone"] for arm in ARMS},
        "fair": 2.0,
        "sleeping_over_spinning_alone": step["sleeping, alone"] / step["spinning, alone"],
    }


def _seconds_a_step(seconds: float, threads: int, variables: dict[str, str]) -> float:
    left_out = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    environment = {name: value for name, value in os.environ.items() if name not in left_out} | variables
    command = [sys.executable, "-c", STEPS, str(seconds), str(threads)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return float(output.split()[0])


@contextmanager
def _competitors(number: int) -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    time.sleep(0.5)
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


if __name__ == "__main__":
    main()
