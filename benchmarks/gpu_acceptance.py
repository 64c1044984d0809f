"""Is everything right and fast on this GPU? One command, about ten minutes on one card, no internet.

    python benchmarks/gpu_acceptance.py [--device cuda] [--parts NAME ...] [--work DIR] [--result FILE]
    python benchmarks/gpu_acceptance.py --device cpu --tiny --dry

Each part runs in a process of its own, with a limit of time, so that neither a failure nor a broken device hides the
rest: what is not timed at once, then what is timed one after the other, as far as --seconds go. `--device cpu --tiny`
is a dry run of the benchmark's own logic. AUCs are compared with those of a CPU in
benchmarks/results/gpu_acceptance_on_cpu.json. ADNEXT_TEST_DATA names the
folder of real scans for the parts that want some; without it they say so. `--oasis` names a folder of work in which
benchmarks/oasis_ad.py has already prepared `sex`.

Prints JSON and writes it to benchmarks/results/gpu_acceptance.json unless --dry: what each part found or how it failed,
and `acceptance`: each line that a release has to hold, with its figure. Ends with 1 if a part failed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

RESULT = Path(__file__).parent / "results" / "gpu_acceptance.json"
CPU_RESULT = Path(__file__).parent / "results" / "gpu_acceptance_on_cpu.json"


class Part(NamedTuple):
    """A function (device, tiny, folder) to what it found; how long it may take; whether it is timed.

    It may keep what it has found so far in `found.json` of its folder, which is read if it takes too long.
    """

    module: str
    function: str
    seconds: int
    is_timed: bool


PARTS = {
    "compile_kernels": Part("gpu_acceptance_steps", "compile_kernels", 180, False),
    "training": Part("gpu_acceptance_training", "training", 180, False),
    "demo": Part("gpu_acceptance_runs", "demo", 240, False),
    "oasis": Part("gpu_acceptance_runs", "oasis", 240, False),
    "stock_command": Part("gpu_acceptance_runs", "stock_command", 180, False),
    "commands": Part("gpu_acceptance_runs", "commands", 240, False),
    "brain_extraction": Part("gpu_acceptance_runs", "brain_extraction", 120, False),
    "machine": Part("gpu_acceptance_steps", "machine", 30, True),
    "steps": Part("gpu_acceptance_steps", "steps", 90, True),
    "graph_steps": Part("gpu_acceptance_steps", "graph_steps", 30, True),
    "sparse_steps": Part("gpu_acceptance_steps", "sparse_steps", 60, True),
    "kernels": Part("gpu_acceptance_kernels", "kernels", 90, True),
    "data": Part("gpu_acceptance_data", "data", 90, True),
    "compiled_steps": Part("gpu_acceptance_steps", "compiled_steps", 120, True),
    "mednext_steps": Part("gpu_acceptance_steps", "mednext_steps", 120, True),
}
CPU_PATIENCE = 10  # times as long on a CPU
AT_ONCE = 6  # of the parts that are not timed, on a GPU; on a CPU one after the other


def main() -> None:
    """Run the parts, print and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="smallest sizes: checks this benchmark's own logic")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--work", type=Path, help="folder for what parts write (default: a temporary one)")
    parser.add_argument("--oasis", type=Path, help="folder of work with the prepared dataset of OASIS-1, sex")
    parser.add_argument("--result", type=Path, default=RESULT, help="file to write (default: %(default)s)")
    parser.add_argument("--dry", action="store_true", help="do not write the result file")
    parser.add_argument("--seconds", type=float, default=600, help="for all parts on a GPU (default: %(default)s)")
    parser.add_argument("--only", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        _run_here(arguments)
        return
    report: dict[str, Any] = {"device": arguments.device, "tiny": arguments.tiny, "parts": {}}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or Path(temporary)).absolute()
        for name, found in _all_parts(arguments, work):
            report["parts"][name] = found
            print(f"{name}: {found['status']} in {found['seconds']} s", file=sys.stderr, flush=True)
            if not arguments.dry:  # after each, so that what was found is there whatever becomes of the rest
                arguments.result.write_text(json.dumps(report, indent=1) + "\n")
    report["made_by"] = _provenance()
    report["seconds"] = round(time.monotonic() - started, 1)
    report["acceptance"] = acceptance(report)
    text = json.dumps(report, indent=1)
    if not arguments.dry:
        arguments.result.write_text(text + "\n")
    print(text)
    sys.exit(any(found["status"] != "ok" for found in report["parts"].values()))


def _all_parts(arguments: argparse.Namespace, work: Path) -> Iterable[tuple[str, dict]]:
    is_gpu = arguments.device == "cuda"
    ends = time.monotonic() + (arguments.seconds if is_gpu else float("inf"))

    def run(name: str) -> tuple[str, dict]:
        limit = min(PARTS[name].seconds * (1 if is_gpu else CPU_PATIENCE), ends - time.monotonic())
        return name, _in_process(name, arguments, work, limit) if limit > 0 else {
            "status": "no time left",
            "seconds": 0,
        }

    with ThreadPoolExecutor(AT_ONCE if is_gpu else 1) as pool:
        yield from pool.map(run, [name for name in arguments.parts if not PARTS[name].is_timed])
    yield from map(run, [name for name in arguments.parts if PARTS[name].is_timed])


def _in_process(name: str, arguments: argparse.Namespace, work: Path, limit: float) -> dict:
    """What a part found, run in a process of its own."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "found.json").unlink(missing_ok=True)
    words = [sys.executable, __file__, "--only", name, "--device", arguments.device, "--work", str(folder)]
    words += ["--tiny"] if arguments.tiny else []
    words += ["--oasis", str(arguments.oasis)] if arguments.oasis else []
    started = time.monotonic()
    found: dict[str, Any] = {"status": "ok"}
    with (folder / "printed.txt").open("w") as printed:
        try:
            # as our commands have it: threads that wait leave the processors to others
            environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
            code = subprocess.run(words, stdout=printed, stderr=printed, timeout=limit, env=environment).returncode
        except subprocess.TimeoutExpired:
            code = None
    if code != 0:
        last = (folder / "printed.txt").read_text(errors="replace").splitlines()[-40:]
        found = {"status": "took too long" if code is None else "failed", "exit_code": code, "printed": last}
    if (folder / "found.json").is_file():
        found["found"] = json.loads((folder / "found.json").read_text())
    return found | {"seconds": round(time.monotonic() - started, 1)}


def _run_here(arguments: argparse.Namespace) -> None:
    part = PARTS[arguments.only]
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["ADNEXT_ACCEPTANCE_OASIS"] = str(arguments.oasis or "")
    run: Callable[..., dict] = getattr(import_module(part.module), part.function)
    try:
        found = run(arguments.device, arguments.tiny, arguments.work)
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    (arguments.work / "found.json").write_text(json.dumps(found, indent=1))


def acceptance(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The lines that must hold on a GPU, those whose part has a figure: the figure, and whether it does."""
    parts = {name: part["found"] for name, part in report["parts"].items() if "found" in part}
    reference = json.loads(CPU_RESULT.read_text())["parts"] if CPU_RESULT.is_file() else {}
    lines: dict[str, dict[str, Any]] = {}

    def line(name: str, figure: float, is_met: bool) -> None:
        lines[name] = {"figure": round(figure, 4), "met": is_met}

    steps = [row for row in parts.get("steps", {}).get("rows", []) if _is_compared(row)]
    times = {arm: time for row in steps for arm, time in row["milliseconds"].items()}
    stock = [time for arm, time in times.items() if arm.startswith("stock")]
    ours = [times["ours"]] if "ours" in times else []
    for row in (row for part in ("graph_steps", "compiled_steps") for row in parts.get(part, {}).get("rows", [])):
        ours += [row["milliseconds"]["ours"]] if _is_compared(row) and "ours" in row["milliseconds"] else []
    if stock and ours:
        ratio = min(stock) / min(ours)
        line("step of B, batch 4, bfloat16, over stock PyTorch >= 3", ratio, ratio >= 3)
    for row in parts.get("sparse_steps", {}).get("rows", []):
        times = row["milliseconds"]
        if (row["size"], row["mask_ratio"]) == ("B", 0.6) and {"dense_as_graph", "gathered_as_graph"} <= times.keys():
            ratio = times["dense_as_graph"] / times["gathered_as_graph"]
            line(f"sparse pre-training of B, batch {row['batch']}, over dense at 60 % >= 2", ratio, ratio >= 2)
    for batch, part in ((4, "depthwise"), (16, "depthwise_of_large_batch")):
        for stage, passes in parts.get("kernels", {}).get(part, {}).items():
            for name, found in passes.items():
                if isinstance(found, dict) and "roofline_share" in found:
                    share = found["roofline_share"]
                    what = f"{name} of the depthwise convolution of {stage}, batch {batch}"
                    line(f"{what}, share of the roofline >= 0.5", share, share >= 0.5)
    if (busy := parts.get("data", {}).get("utilisation")) is not None:
        line("GPU busy over an epoch >= 0.95", busy, busy >= 0.95)
    for name in ("demo", "oasis"):
        low, high = reference.get(name, {}).get("found", {}).get("interval", (None, None))
        if low is not None and "auc" in parts.get(name, {}):
            line(f"AUC of {name} within the CPU's interval", parts[name]["auc"], low <= parts[name]["auc"] <= high)
    return lines


def _is_compared(row: dict[str, Any]) -> bool:
    return (row["size"], row["batch"], row["precision"]) == ("B", 4, "bfloat16")


def _provenance() -> dict[str, Any]:
    from adnext_plugin.training.provenance import provenance

    return {**provenance(), "processor": platform.processor() or platform.machine(), "cpus": os.cpu_count()}


if __name__ == "__main__":
    main()
