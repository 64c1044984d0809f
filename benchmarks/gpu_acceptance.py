"""Is everything right and fast on this GPU? One command, about ten minutes on one card, no internet.

    python benchmarks/gpu_acceptance.py [--device cuda] [--parts NAME ...] [--work DIR] [--result FILE]
    python benchmarks/gpu_acceptance.py --device cpu --tiny --dry

Each part runs in a process of its own, with a limit of time, so that neither a failure nor a broken device hides the
rest: what is timed one after the other, then what is not timed at once. `--device cpu --tiny` is a dry run of the
benchmark's own logic, and `--device cpu --parts demo oasis --result benchmarks/results/gpu_acceptance_on_cpu.json` made
what AUCs on a GPU are compared with. ADNEXT_TEST_DATA names the folder of real scans for the parts that want some;
without it they say so. `--oasis` names a folder of work in which benchmarks/oasis_ad.py has already prepared `sex`.

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
    """A function (device, tiny, folder) to what it found; how long it may take; whether it is timed."""

    module: str
    function: str
    seconds: int
    is_timed: bool


PARTS = {
    "machine": Part("gpu_acceptance_steps", "machine", 60, True),
    "kernels": Part("gpu_acceptance_kernels", "kernels", 240, True),
    "steps": Part("gpu_acceptance_steps", "steps", 240, True),
    "compiled_steps": Part("gpu_acceptance_steps", "compiled_steps", 240, True),
    "sparse_steps": Part("gpu_acceptance_steps", "sparse_steps", 120, True),
    "data": Part("gpu_acceptance_data", "data", 180, True),
    "training": Part("gpu_acceptance_training", "training", 180, False),
    "demo": Part("gpu_acceptance_runs", "demo", 400, False),
    "oasis": Part("gpu_acceptance_runs", "oasis", 400, False),
    "stock_command": Part("gpu_acceptance_runs", "stock_command", 240, False),
    "brain_extraction": Part("gpu_acceptance_runs", "brain_extraction", 180, False),
}
CPU_PATIENCE = 10  # times as long on a CPU, where full runs are those a GPU's are compared with
AT_ONCE = 4  # of the parts that are not timed, on a GPU; on a CPU one after the other


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
    timed = [name for name in arguments.parts if PARTS[name].is_timed]
    others = [name for name in arguments.parts if not PARTS[name].is_timed]
    for name in timed:
        yield name, _in_process(name, arguments, work)
    with ThreadPoolExecutor(AT_ONCE if arguments.device == "cuda" else 1) as pool:
        yield from zip(others, pool.map(lambda name: _in_process(name, arguments, work), others), strict=True)


def _in_process(name: str, arguments: argparse.Namespace, work: Path) -> dict:
    """What a part found, run in a process of its own."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, __file__, "--only", name, "--device", arguments.device, "--work", str(folder)]
    words += ["--tiny"] if arguments.tiny else []
    words += ["--oasis", str(arguments.oasis)] if arguments.oasis else []
    started = time.monotonic()
    found: dict[str, Any] = {"status": "ok"}
    with (folder / "printed.txt").open("w") as printed:
        try:
            limit = PARTS[name].seconds * (CPU_PATIENCE if arguments.device == "cpu" and not arguments.tiny else 1)
            code = subprocess.run(words, stdout=printed, stderr=printed, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            code = None
    if code != 0:
        last = (folder / "printed.txt").read_text(errors="replace").splitlines()[-12:]
        found = {"status": "took too long" if code is None else "failed", "exit_code": code, "printed": last}
    if (folder / "found.json").is_file():
        found["found"] = json.loads((folder / "found.json").read_text())
    return found | {"seconds": round(time.monotonic() - started, 1)}


def _run_here(arguments: argparse.Namespace) -> None:
    part = PARTS[arguments.only]
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["ADNEXT_ACCEPTANCE_OASIS"] = str(arguments.oasis or "")
    run: Callable[..., dict] = getattr(import_module(part.module), part.function)
    (arguments.work / "found.json").unlink(missing_ok=True)
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

    for row in parts.get("steps", {}).get("rows", []):
        if (row["size"], row["batch"], row["precision"]) == ("B", 4, "bfloat16") and "ours" in row["milliseconds"]:
            stock = min(value for arm, value in row["milliseconds"].items() if arm.startswith("stock"))
            ours = min(row["milliseconds"]["ours"], _recorded(parts, "ours"), _recorded(parts, "ours_as_cuda_graph"))
            line("step of B, batch 4, bfloat16, over stock PyTorch >= 3", stock / ours, stock / ours >= 3)
    for row in parts.get("sparse_steps", {}).get("rows", []):
        if row["size"] == "B" and row["mask_ratio"] == 0.6:
            ratio = row["milliseconds"]["dense"] / row["milliseconds"]["gathered"]
            line("sparse pre-training of B over dense at 60 % >= 2", ratio, ratio >= 2)
    shares = parts.get("kernels", {}).get("roofline_shares", {})
    for name, share in shares.items():
        line(f"depthwise kernel, share of the roofline >= 0.5: {name}", share, share >= 0.5)
    if (busy := parts.get("data", {}).get("utilisation")) is not None:
        line("GPU busy over an epoch >= 0.95", busy, busy >= 0.95)
    for name in ("demo", "oasis"):
        low, high = reference.get(name, {}).get("found", {}).get("interval", (None, None))
        if low is not None and "auc" in parts.get(name, {}):
            line(f"AUC of {name} within the CPU's interval", parts[name]["auc"], low <= parts[name]["auc"] <= high)
    return lines


def _recorded(parts: dict[str, Any], arm: str) -> float:
    rows = parts.get("compiled_steps", {}).get("rows", [])
    times = [row["milliseconds"].get(arm) for row in rows if (row["size"], row["batch"]) == ("B", 4)]
    return min([time for time in times if time], default=float("inf"))


def _provenance() -> dict[str, Any]:
    from adnext_plugin.training.provenance import provenance

    return {**provenance(), "processor": platform.processor() or platform.machine(), "cpus": os.cpu_count()}


if __name__ == "__main__":
    main()
