"""A training step of a MedNeXt on a CPU: as this package computes it, and as MONAI's modules do, side by side.

    python benchmarks/mednext_step.py [--sizes mednext_b_k3 mednext_b_k5 mednext_v2] [--batches 1] [--input-size 64]

Forward, loss and backward, float32, of one network with the same weights. Both take turns in one process, after a
warm-up of each; figures are medians. Everything is measured with glibc's default allocator and with large buffers
kept, for both alike. The difference is the largest of any parameter's gradient, relative to its norm, among those that
are not rounding themselves. Prints JSON, and writes it to benchmarks/results/mednext_step.json unless --dry.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest import mock

import torch

sys.path.insert(0, str(Path(__file__).parent))
import side_by_side

from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.layers import mednext_blocks
from adnext_plugin.plan import NetworkSettings

NETWORKS = ("mednext_b_k3", "mednext_b_k5", "mednext_v2")
RESULT = Path(__file__).parent / "results" / "mednext_step.json"


def main() -> None:
    """Measure and write."""
    parser = side_by_side.new_parser(__doc__, RESULT, NETWORKS)
    parser.set_defaults(batches=[1], input_size=64)
    side_by_side.run(_measure, parser.parse_args())


def _measure(arguments: argparse.Namespace) -> list[dict]:
    rows = []
    for name in arguments.sizes:
        for batch in arguments.batches:
            torch.manual_seed(0)
            size = (arguments.input_size,) * 3
            network = build_network(NetworkSettings(name=name, options={}), 1, 2, size).train()
            images = torch.randn(batch, 1, *size)
            arms = {"ours": partial(_step, network, images, True), "monai": partial(_step, network, images, False)}
            seconds = side_by_side.take_turns(arms, arguments.repeats)
            medians = {arm: statistics.median(values) for arm, values in seconds.items()}
            rows.append(
                {
                    "network": name,
                    "batch": batch,
                    "input_size": arguments.input_size,
                    "median_seconds": medians,
                    "all_seconds": seconds,
                    "speed_up": medians["monai"] / medians["ours"],
                    "largest_difference": _largest_difference(*[_gradients(network, step) for step in arms.values()]),
                }
            )
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _step(network: torch.nn.Module, images: torch.Tensor, by_tokens: bool) -> float:
    with mock.patch.object(mednext_blocks, "forward_kernel_is_faster", return_value=by_tokens):
        started = time.perf_counter()
        network.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(images), torch.arange(len(images)) % 2).backward()
        return time.perf_counter() - started


def _gradients(network: torch.nn.Module, step: Callable[[], float]) -> list[torch.Tensor]:
    step()
    return [parameter.grad for parameter in network.parameters()]


def _largest_difference(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    largest = max(float(gradient.norm()) for gradient in theirs)
    counted = [(one, other) for one, other in zip(ours, theirs, strict=True) if other.norm() > 1e-4 * largest]
    return max(float((one - other).norm() / other.norm()) for one, other in counted)


if __name__ == "__main__":
    main()
