"""A training step of AD-NeXt with the convolutional stem on a CPU: its first half in pieces, and as PyTorch's modules.

    python benchmarks/stem_step.py [--sizes T] [--batches 4 8] [--input-size 96] [--repeats 5]

Forward, loss and backward, float32, of the same network with the same weights. The arms take turns in one process,
after a warm-up of each; figures are medians, of wall-clock time and of processor time, which leaves out waiting for a
core. Everything is measured twice, in processes of their own: with glibc's default allocator, and with large buffers
kept (`adnext_plugin.cpu_memory`), which is how training runs. The error of each arm's first batch variance against
float64 is there too. Prints JSON, and writes it to benchmarks/results/stem_step.json unless --dry.
"""

import argparse
import copy
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
import side_by_side

from adnext_plugin.networks.families.adnext import ADNeXt, build
from adnext_plugin.networks.layers import stems

RESULT = Path(__file__).parent / "results" / "stem_step.json"


def main() -> None:
    """Measure and write."""
    parser = side_by_side.new_parser(__doc__, RESULT)
    parser.set_defaults(sizes=["T"], batches=[4, 8], input_size=96, repeats=5)
    side_by_side.run(_measure, parser.parse_args())


def _measure(arguments: argparse.Namespace) -> list[dict]:
    rows = []
    arms = {"in_pieces": stems.pooled_norm, "modules": _modules}
    for size in arguments.sizes:
        for batch in arguments.batches:
            torch.manual_seed(0)
            network = build(*side_by_side.SIZES[size], 1, 2, drop_path_rate=0.0, stem="convolutional", init="fan_in")
            networks = {arm: copy.deepcopy(network).train() for arm in arms}
            images = torch.rand(batch, 1, *[arguments.input_size] * 3)
            steps = {arm: partial(_step, networks[arm], images, way) for arm, way in arms.items()}
            seconds = side_by_side.take_turns(steps, arguments.repeats)
            row = {"size": size, "batch": batch, "input_size": arguments.input_size}
            for kind, name in enumerate(("wall_clock", "processor")):
                medians = {arm: statistics.median(values[kind] for values in seconds[arm]) for arm in arms}
                row[f"median_seconds_{name}"] = medians
                row[f"speed_up_{name}"] = medians["modules"] / medians["in_pieces"]
            row["relative_error_of_variance"] = {
                arm: _error_of_variance(network, images, halve) for arm, halve in arms.items()
            }
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def _modules(layers: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    return layers(x)


def _step(network: ADNeXt, images: torch.Tensor, way: Callable[..., torch.Tensor]) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    stems.pooled_norm = way
    started = time.perf_counter(), time.process_time()
    network.zero_grad(set_to_none=True)
    F.cross_entropy(network(images), torch.arange(len(images)) % 2).backward()
    return time.perf_counter() - started[0], time.process_time() - started[1]


@torch.no_grad()
def _error_of_variance(network: ADNeXt, images: torch.Tensor, halve: object) -> float:
    layers = copy.deepcopy(network.encoder.stem.layers[:4]).train()
    convolution, norm = layers[0], layers[1]
    norm.momentum = 1.0
    halve(layers, images)
    exact = convolution.double()(images.double()).var(dim=(0, 2, 3, 4))
    return (norm.running_var / exact - 1).abs().max().item()


if __name__ == "__main__":
    main()
