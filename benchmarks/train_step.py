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
import sys
import time
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import side_by_side
from stock_adnext import StockADNeXt

from adnext_plugin.networks.families.adnext import build

RESULT = Path(__file__).parent / "results" / "train_step.json"


def main() -> None:
    """Measure and write."""
    side_by_side.run(_measure, side_by_side.new_parser(__doc__, RESULT).parse_args())


def _measure(arguments: argparse.Namespace) -> list[dict]:
    rows = []
    for size in arguments.sizes:
        for batch in arguments.batches:
            images = torch.randn(batch, 1, *[arguments.input_size] * 3)
            targets = torch.arange(batch) % 2
            arms = {name: partial(_step, *arm, images, targets) for name, arm in _arms(size).items()}
            seconds = side_by_side.take_turns(arms, arguments.repeats)
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
    ours = build(*side_by_side.SIZES[size], 1, 2, drop_path_rate=0.0)
    contiguous, channels_last = StockADNeXt(*side_by_side.SIZES[size]), StockADNeXt(*side_by_side.SIZES[size])
    for network in (contiguous, channels_last):
        network.load_state_dict(ours.state_dict())
    channels_last.to(memory_format=torch.channels_last_3d)
    networks = {"ours": ours, "stock_channels_last": channels_last, "stock_contiguous": contiguous}
    return {
        name: (network.train(), torch.optim.AdamW(network.parameters(), fused=True))
        for name, network in networks.items()
    }


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
