"""What a training step or the whole demo on a CPU costs beside other busy processes, as many as there are processors.

    python benchmarks/busy_cpu.py [--seconds 8] [--threads N] [--repeats 2]
    python benchmarks/busy_cpu.py --demo [--repeats 1]

Arms take turns, each in a process of its own: threads that spin while they wait (OpenMP's default) and threads that
sleep (OMP_WAIT_POLICY=PASSIVE, which this package's commands set), alone and beside endless loops that are started
here. A fair share is half of the processors: twice the time. The demo is `adnext_demo --fast`, as users type it, in a
fresh folder each time. Prints JSON, and writes it to benchmarks/results/busy_cpu.json, of the demo to
busy_cpu_demo.json, unless --dry; `load_before` tells whether the machine was idle, and of the demo
`processor_seconds_of_strangers` whether it stayed so.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adnext_plugin.training.provenance import provenance

RESULTS = Path(__file__).parent / "results"
ARMS = {"spinning": {}, "sleeping": {"OMP_WAIT_POLICY": "PASSIVE"}}
LEFT_OUT = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # of our own environment
FAIR = 2.0
PATIENCE = 20  # times as long as alone, after which a demo is taken not to end
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
    parser.add_argument("--repeats", type=int, help="default: 2, of the demo 1")
    parser.add_argument("--demo", action="store_true", help="measure the demo in the place of a training step")
    parser.add_argument("--dry", action="store_true", help="write no file")
    arguments = parser.parse_args()
    if arguments.demo:
        name, found = "busy_cpu_demo.json", demo_measured(arguments.repeats or 1)
    else:
        name, found = "busy_cpu.json", measured(arguments.seconds, arguments.threads, arguments.repeats or 2)
    result = {"made_by": provenance(), **found}
    print(json.dumps(result, indent=2))
    if not arguments.dry:
        (RESULTS / name).write_text(json.dumps(result, indent=2) + "\n")


def measured(seconds: float, threads: int, repeats: int) -> dict:
    """Seconds a step of every arm, and their ratios."""
    machine = _machine()
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        for arm, variables in ARMS.items():
            found.setdefault(f"{arm}, alone", []).append(_seconds_a_step(seconds, threads, variables))
            with _competitors(machine["competitors"]):
                found.setdefault(f"{arm}, beside others", []).append(_seconds_a_step(seconds, threads, variables))
    step = {arm: statistics.median(values) for arm, values in found.items()}
    return {
        **machine,
        "threads": threads,
        "seconds_a_step": step,
        "all_seconds_a_step": found,
        "times_slower_beside_others": {arm: step[f"{arm}, beside others"] / step[f"{arm}, alone"] for arm in ARMS},
        "fair": FAIR,
        "sleeping_over_spinning_alone": step["sleeping, alone"] / step["spinning, alone"],
    }


def demo_measured(repeats: int) -> dict:
    """Seconds of the demo alone and beside others, in turn, and their ratio."""
    machine = _machine()
    strangers = _processor_seconds_of_machine() - _processor_seconds_of_ours()
    alone, beside = [], []
    for _ in range(repeats):
        alone.append(_seconds_of_demo())
        with _competitors(machine["competitors"]):
            beside.append(_seconds_of_demo(patience=PATIENCE * alone[-1]))
    strangers = _processor_seconds_of_machine() - _processor_seconds_of_ours() - strangers
    seconds = {"alone": statistics.median(alone), "beside others": statistics.median(beside)}
    return {
        **machine,
        "processor_seconds_of_strangers": round(strangers, 1),
        "command": "adnext_demo --fast",
        "seconds": seconds,
        "all_seconds": {"alone": alone, "beside others": beside},
        "times_slower_beside_others": seconds["beside others"] / seconds["alone"],
        "fair": FAIR,
    }


def _machine() -> dict:
    processors = len(os.sched_getaffinity(0))
    return {
        "processor": platform.processor() or platform.machine(),
        "processors": processors,
        "competitors": processors,
        "load_before": round(os.getloadavg()[0], 2),
    }


def _seconds_a_step(seconds: float, threads: int, variables: dict[str, str]) -> float:
    command = [sys.executable, "-c", STEPS, str(seconds), str(threads)]
    environment = _environment() | variables
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return float(output.split()[0])


def _seconds_of_demo(patience: float | None = None) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [Path(sys.executable).parent / "adnext_demo", "--fast", "--output", f"{folder}/demo"]
        begun = time.perf_counter()
        # what it says goes beside the JSON
        subprocess.run(command, env=_environment(), check=True, stdout=sys.stderr, timeout=patience)
        return time.perf_counter() - begun


def _processor_seconds_of_machine() -> float:
    user, nice, system = (int(ticks) for ticks in Path("/proc/stat").read_text().split()[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def _processor_seconds_of_ours() -> float:
    """Of this process and of all that it has started and seen end."""
    ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in ours)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in LEFT_OUT}


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
