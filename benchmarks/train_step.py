"""A whole training step of AD-NeXt on a CPU: this package's network against the same one from PyTorch's own modules.

    python benchmarks/train_step.py [--sizes T S B] [--batches 1 4] [--input-size 128] [--repeats 3]

Forward, loss, backward and AdamW, float32. The arms of one size and batch take turns in one process, after a warm-up of
each; figures are medians. Everything is measured twice, in processes of their own: with glibc's default allocator, and
with large buffers kept (`adnext_plugin.cpu_memory`), for all arms alike. Prints JSON, and writes it to
benchmarks/results/train_step.json unless --dry.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from stock_adnext import StockADNeXt

from adnext_plugin.cpu_memory import keep_large_buffers
from adnext_plugin.networks.adnext import build
from adnext_plugin.training.provenance import provenance

SIZES = {
    "T": ((2, 2, 6, 2), (16, 32, 64, 128)),
    "S": ((3, 3, 9, 3), (32, 64, 128, 256)),
    "B": ((3, 3, 27, 3), (64, 128, 256, 512)),
}
RESULT = Path(__file__).parent / "results" / "train_step.json"


def main() -> None:
    """Measure in two child processes, one per allocator setting."""
    arguments = _parse()
    if arguments.allocator:
        if arguments.allocator == "kept":
            assert keep_large_buffers(), "large buffers can be kept with glibc only"
        print(json.dumps(_measure(arguments)))
        return
    report = {"made_by": provenance(), "threads": arguments.threads, "allocators": {}}
    for allocator in ("default", "kept"):
        command = [sys.executable, __file__, *sys.argv[1:], "--allocator", allocator]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        report["allocators"][allocator] = json.loads(done.stdout.splitlines()[-1])
    text = json.dumps(report, indent=1)
    print(text)
    if not arguments.dry:
        RESULT.write_text(text + "\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--input-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dry", action="store_true", help="do not write the result file")
    parser.add_argument("--allocator", choices=["default", "kept"], help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(arguments: argparse.Namespace) -> list[dict]:
    torch.set_num_threads(arguments.threads)
    rows = []
    for size in arguments.sizes:
        for batch in arguments.batches:
            arms = _arms(size)
            images = torch.randn(batch, 1, *[arguments.input_size] * 3)
            targets = torch.arange(batch) % 2
            seconds: dict[str, list[float]] = {name: [] for name in arms}
            for repeat in range(arguments.repeats + 1):
                for name, (network, optimizer) in arms.items():
                    elapsed = _step(network, optimizer, images, targets)
                    if repeat:  # the first is the warm-up
                        seconds[name].append(elapsed)
            medians = {name: statistics.median(values) for name, values in seconds.items()}
            rows.append(
                {
                    "size": size,
                    "batch": batch,
                    "input_size": arguments.input_size,
                    "median_seconds": medians,
                    "all_seconds": seconds,
                    "speed_up_over_stock_channels_last": medians["stock_channels_last"] / medians["ours"],
                    "speed_up_over_stock_contiguous": medians["stock_contiguous"] / medians["ours"],
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _arms(size: str) -> dict[str, tuple[torch.nn.Module, torch.optim.Optimizer]]:
    torch.manual_seed(0)
    ours = build(*SIZES[size], 1, 2, drop_path_rate=0.0)
    contiguous, channels_last = StockADNeXt(*SIZES[size]), StockADNeXt(*SIZES[size])
    for network in (contiguous, channels_last):
        network.load_state_dict(ours.state_dict())
    channels_last.to(memory_format=torch.channels_last_3d)
    networks = {"ours": ours, "stock_channels_last": channels_last, "stock_contiguous": contiguous}
    return {name: (network.train(), torch.optim.AdamW(network.parameters())) for name, network in networks.items()}


def _step(
    network: torch.nn.Module, optimizer: torch.optim.Optimizer, images: torch.Tensor, targets: torch.Tensor
) -> float:
    started = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(network(images), targets).backward()
    optimizer.step()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
