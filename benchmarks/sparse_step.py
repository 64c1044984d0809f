"""A step of the encoder in masked pre-training, forward and backward: every way of doing it, side by side.

    python benchmarks/sparse_step.py [--sizes T S B] [--batches 1 4] [--ratios 0.6 0.75 0.9] [--repeats 3]

Arms: `gathered` (the default backend, with the ways of convolving it measures for itself), `dense` (the package's own
fast network on the whole volume), `masked_dense` (the package's reference) and `stock_masked_dense` (PyTorch's own
modules, channels-last). They take turns in one process, after a warm-up of each; figures are medians. Everything is
measured with glibc's default allocator and with large buffers kept, for all arms alike. Saved activations are the
distinct tensors kept for the backward pass, without parameters. Prints JSON, and writes it to
benchmarks/results/sparse_step.json unless --dry.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import side_by_side
from stock_adnext import StockADNeXt

from adnext_plugin.networks.families.adnext import build
from adnext_plugin.pretraining.masked_autoencoder.sparse.backends import encode_with, fastest_ways
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches
from adnext_plugin.pretraining.masks import draw_visible

ARMS = ("gathered", "dense", "masked_dense", "stock_masked_dense")
RESULT = Path(__file__).parent / "results" / "sparse_step.json"


def main() -> None:
    """Measure and write."""
    parser = side_by_side.new_parser(__doc__, RESULT)
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.6, 0.75, 0.9])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    side_by_side.run(_measure, parser.parse_args())


def _measure(arguments: argparse.Namespace) -> list[dict]:
    rows = []
    for size in arguments.sizes:
        torch.manual_seed(0)
        ours = build(*side_by_side.SIZES[size], 1, 2, drop_path_rate=0.0)
        stock = StockADNeXt(*side_by_side.SIZES[size])
        stock.load_state_dict(ours.state_dict())
        stock.to(memory_format=torch.channels_last_3d)
        for batch in arguments.batches:
            images = torch.randn(batch, 1, *[arguments.input_size] * 3)
            for ratio in arguments.ratios:
                visible = draw_visible((arguments.input_size // 32,) * 3, ratio, [(0, i) for i in range(batch)])
                patches = VisiblePatches(visible, torch.device("cpu"))
                ways = fastest_ways(ours.encoder, visible, 32, torch.device("cpu"))
                arms = {
                    "gathered": partial(encode_with("gathered", ways), ours.encoder, images, patches),
                    "dense": partial(ours.encoder, images),
                    "masked_dense": partial(encode_with("masked_dense", ()), ours.encoder, images, patches),
                    "stock_masked_dense": partial(stock.encode, images, visible),
                }
                row = {"size": size, "batch": batch, "mask_ratio": ratio, "ways": ways}
                rows.append(row | _compare({name: arms[name] for name in arguments.arms}, [ours, stock], arguments))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def _compare(arms: dict[str, Callable], networks: list[torch.nn.Module], arguments: argparse.Namespace) -> dict:
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    saved = {name: _saved_bytes(encode, networks) for name, encode in arms.items()}  # the warm-up, too
    for _ in range(arguments.repeats):
        for name, encode in arms.items():
            for network in networks:
                network.zero_grad(set_to_none=True)
            started = time.perf_counter()
            encode().sum().backward()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "median_seconds": medians,
        "all_seconds": seconds,
        "speed_up_of_gathered_over": {name: median / medians["gathered"] for name, median in medians.items()},
        "saved_activation_bytes": saved,
        "saved_over_dense": saved["gathered"] / saved["dense"],
    }


def _saved_bytes(encode: Callable, networks: list[torch.nn.Module]) -> int:
    known = {parameter.untyped_storage().data_ptr() for network in networks for parameter in network.parameters()}
    sizes: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = encode().sum()
    loss.backward()
    return sum(sizes.values())


if __name__ == "__main__":
    main()
