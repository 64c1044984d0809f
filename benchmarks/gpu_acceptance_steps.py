"""The machine, and training steps on it: AD-NeXt of this package beside the same network from PyTorch's own modules."""

import gc
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch
from gpu_acceptance_kernels import STAGES
from side_by_side import SIZES
from stock_adnext import StockADNeXt

from adnext_plugin.environment import LaunchSetting, usable_cpus
from adnext_plugin.networks.families.adnext import build
from adnext_plugin.networks.families.mednext import mednext_b_k3, mednext_b_k5
from adnext_plugin.networks.kernels.choice import Shape, fastest_plan, fastest_plans, use_plans
from adnext_plugin.pretraining.masked_autoencoder.sparse.backends import encode_with, fastest_ways
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches
from adnext_plugin.pretraining.masks import draw_visible
from adnext_plugin.training.launching import LaunchedNetwork

WIDTHS = {**SIZES, "L": ((3, 3, 27, 3), (128, 256, 512, 512))}
PRECISIONS = ("bfloat16", "tf32", "float32")
SECONDS_AN_ARM = 1.0
Step = Callable[[], None]
Encode = Callable[..., torch.Tensor]
SPARSE = ("B", "T")
# mask ratios of each batch; AD-NeXt is pre-trained on larger ones than it is trained on
SPARSE_BATCHES = {4: (0.6, 0.75, 0.9), 16: (0.6,), 64: (0.6,)}


def machine(device: str, tiny: bool, folder: Path) -> dict:
    """What the card can do: memory bandwidth by a copy, float32 and bfloat16 rates by matrix products."""
    sizes = (1 << 20, 512) if tiny else (1 << 30, 8192)
    source, target = (torch.empty(sizes[0], dtype=torch.uint8, device=device) for _ in range(2))
    found: dict = {"copy_gb_per_s": round(2 * sizes[0] / _seconds(lambda: target.copy_(source), device) / 1e9, 1)}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left, right = (torch.randn(sizes[1], sizes[1], dtype=dtype, device=device) for _ in range(2))
        seconds = _seconds(partial(torch.mm, left, right), device)
        found[f"matrix_product_{name}_tflop_per_s"] = round(2 * sizes[1] ** 3 / seconds / 1e12, 2)
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {"name": properties.name, "memory_gib": round(properties.total_memory / 2**30, 1)}
        found |= {"multiprocessors": properties.multi_processor_count, "cuda": torch.version.cuda}
        found["cudnn"] = torch.backends.cudnn.version()
    return found


def compile_kernels(device: str, tiny: bool, folder: Path) -> dict:
    """One step of every size and precision, so that kernels are compiled before anything is timed."""
    jobs = [(size, precision) for size in (("T",) if tiny else WIDTHS) for precision in ("bfloat16", "float32")]
    started = time.perf_counter()
    if device == "cuda":
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(len(jobs) + len(STAGES), usable_cpus()), mp_context=context) as pool:
            chosen = [pool.submit(_choose_kernels, length, channels) for length, channels in STAGES]
            list(pool.map(_one_step, *zip(*jobs, strict=True)))
            for one in chosen:
                one.result()
    return {"seconds": round(time.perf_counter() - started, 1), "jobs": len(jobs)}


def _choose_kernels(length: int, channels: int) -> None:
    shape = Shape(kernel_size=7, channels=channels, size_zyx=(length,) * 3)
    fastest_plan(shape, 4, torch.bfloat16, torch.device("cuda"))


def _one_step(size: str, precision: str) -> None:
    step = _step(*_trained(size, "ours", "cuda"), 4, precision, "cuda", tiny=False)
    step()
    if precision == "bfloat16" and size in SPARSE:
        for _, _, _, encode, network in _encodings(size, "cuda", tiny=False):
            _encode(encode, network, "cuda")


def steps(device: str, tiny: bool, folder: Path) -> dict:
    """Forward, loss, backward and AdamW: milliseconds and peak memory of every size, batch and precision."""
    rows = []
    for size in ("T",) if tiny else ("B", "T", "S", "L"):
        of_size = [
            {"size": size, "batch": batch, "precision": precision, "milliseconds": {}, "peak_gib": {}}
            for batch in ((2,) if tiny else (4, 16))
            for precision in PRECISIONS
        ]
        rows += of_size
        for arm in ("stock_contiguous", "stock_channels_last", "ours"):
            trained = _trained(size, arm, device)
            for row in of_size:
                # PyTorch's own takes a second a step, and is known well enough from one of them
                if arm == "ours" or (row["batch"] < 16 and row["precision"] == "bfloat16"):
                    make = partial(_step, *trained, row["batch"], row["precision"], device, tiny)
                    _guarded(row, arm, make, device)
                    _keep(rows, folder)
    return {"rows": rows}


def graph_steps(device: str, tiny: bool, folder: Path) -> dict:
    """As training launches them: the network's kernels, forward and back, recorded as a CUDA graph; bfloat16."""
    return _launched_steps("graphs", device, tiny, folder)


def compiled_steps(device: str, tiny: bool, folder: Path) -> dict:
    """The same under `torch.compile`, and PyTorch's own modules under it; the first step, which compiles, by itself."""
    return _launched_steps("compile", device, tiny, folder)


def _launched_steps(launch: LaunchSetting, device: str, tiny: bool, folder: Path) -> dict:
    rows: list[dict] = []
    for size in ("T",) if tiny else ("B", "T"):
        row: dict = {"size": size, "batch": 2 if tiny else 4, "precision": "bfloat16", "milliseconds": {}}
        rows.append(row | {"peak_gib": {}, "seconds_of_first": {}, "said": []})
        for arm in ("ours",) if launch == "graphs" else ("ours", "stock_contiguous"):
            network, optimizer = _trained(size, arm, device)
            launched = LaunchedNetwork(network, "eager" if device == "cpu" else launch, rows[-1]["said"].append)
            make = partial(_step, launched, optimizer, row["batch"], "bfloat16", device, tiny)
            _guarded(rows[-1], arm, make, device)
            _keep(rows, folder)
    return {"rows": rows}


def sparse_steps(device: str, tiny: bool, folder: Path) -> dict:
    """The encoder forward and backward in masked pre-training, bfloat16: what is visible only, and all of it."""
    rows: list[dict] = []
    for size in ("T",) if tiny else SPARSE:
        for batch, ratio, arm, encode, network in _encodings(size, device, tiny=tiny):
            what = {"size": size, "batch": batch, "mask_ratio": ratio}
            if not rows or not what.items() <= rows[-1].items():
                rows.append({**what, "milliseconds": {}, "peak_gib": {}, "said": []})
            _guarded(rows[-1], arm, partial(partial, _encode, encode, network, device), device)
            if arm != "stock_masked_dense":  # as training launches it
                launched = LaunchedNetwork(encode, "eager" if device == "cpu" else "graphs", rows[-1]["said"].append)
                as_graph = partial(launched, *encode.inputs)
                _guarded(rows[-1], f"{arm}_as_graph", partial(partial, _encode, as_graph, network, device), device)
            _keep(rows, folder)
    return {"rows": rows}


def mednext_steps(device: str, tiny: bool, folder: Path) -> dict:
    """MedNeXt with the ways to convolve that a run would choose, and with PyTorch's alone; bfloat16."""
    rows: list[dict] = []
    edge, batch = (32, 1) if tiny else (128, 2)
    for name, build_mednext in {"mednext_b_k3": mednext_b_k3, "mednext_b_k5": mednext_b_k5}.items():
        torch.manual_seed(0)
        network = build_mednext(1, 2, (edge,) * 3).to(device).train()
        optimizer = torch.optim.AdamW(network.parameters(), fused=device == "cuda")
        plans = fastest_plans(network, (edge,) * 3, batch, torch.bfloat16, torch.device(device))
        rows.append({"size": name, "batch": batch, "precision": "bfloat16", "milliseconds": {}, "peak_gib": {}})
        rows[-1]["plans"] = {shape: str(plan) for shape, plan in plans.items()}
        for arm, used in (("ours", plans), ("stock", {})):
            use_plans(network, (edge,) * 3, used)
            _guarded(rows[-1], arm, partial(_step, network, optimizer, batch, "bfloat16", device, tiny), device)
            _keep(rows, folder)
    return {"rows": rows}


class _Encoding(torch.nn.Module):
    """An encoder's way to encode some scans and masks, as a network to be launched.

    Args:
        network: whose the encoder is.
        encode: the encoder's outputs for `inputs`.
        inputs: on the device.
    """

    def __init__(self, network: torch.nn.Module, encode: Encode, inputs: tuple[torch.Tensor, ...]) -> None:
        super().__init__()
        self.network, self._encode, self.inputs = network, encode, inputs

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self._encode(*inputs or self.inputs)


def _encodings(size: str, device: str, *, tiny: bool) -> Iterator[tuple[int, float, str, _Encoding, torch.nn.Module]]:
    """Batch, mask ratio, name, what encodes, and whose weights, of every arm of the comparison."""
    torch.manual_seed(0)
    ours = build(*WIDTHS[size], 1, 2, drop_path_rate=0.0).to(device).train()
    stock = StockADNeXt(*WIDTHS[size])
    stock.load_state_dict(ours.state_dict())
    stock.to(device).to(memory_format=torch.channels_last_3d)
    edge = 64 if tiny else 128
    for batch, ratio in [(1, 0.6)] if tiny else [(n, ratio) for n, of_n in SPARSE_BATCHES.items() for ratio in of_n]:
        images = torch.randn(batch, 1, edge, edge, edge, device=device)
        visible = draw_visible((edge // 32,) * 3, ratio, [(0, i) for i in range(batch)])
        ways = fastest_ways(ours.encoder, visible, 32, torch.device(device))
        gathered, each = encode_with("gathered", ways), int(visible[0].sum())
        visible = visible.to(device)

        def sparse(images: torch.Tensor, visible: torch.Tensor, encode=gathered, each=each) -> torch.Tensor:
            return encode(ours.encoder, images, VisiblePatches(visible, images.device, each))

        yield batch, ratio, "gathered", _Encoding(ours, sparse, (images, visible)), ours
        yield batch, ratio, "dense", _Encoding(ours, ours.encoder, (images,)), ours
        if batch <= 4:  # takes seconds
            yield batch, ratio, "stock_masked_dense", _Encoding(stock, stock.encode, (images, visible)), stock


def _keep(rows: list[dict], folder: Path) -> None:
    (folder / "found.json").write_text(json.dumps({"rows": rows}))


def _encode(encode: Encode, network: torch.nn.Module, device: str) -> None:
    network.zero_grad(set_to_none=True)
    with _computing("bfloat16", device):
        total = encode().float().sum()
    total.backward()


def _trained(size: str, arm: str, device: str) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network: torch.nn.Module
    if arm == "ours":
        network = build(*WIDTHS[size], 1, 2, drop_path_rate=0.0)
    else:
        network = StockADNeXt(*WIDTHS[size])
        if arm == "stock_channels_last":
            network = network.to(memory_format=torch.channels_last_3d)
    network = network.to(device).train()
    return network, torch.optim.AdamW(network.parameters(), fused=device == "cuda")


def _step(
    network: Callable[[torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    batch: int,
    precision: str,
    device: str,
    tiny: bool,
) -> Step:
    edge = 32 if tiny else 128
    images = torch.randn(batch, 1, edge, edge, edge, device=device)
    targets = torch.arange(batch, device=device) % 2

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with _computing(precision, device):
            loss = torch.nn.functional.cross_entropy(network(images), targets)
        loss.backward()
        optimizer.step()

    return step


def _guarded(row: dict, arm: str, make: Callable[[], Step], device: str) -> None:
    """Measure one arm into a row; where it fails, say why there."""
    step: Step | None = None
    try:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        is_tf32 = row.get("precision") == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = is_tf32
        step = make()
        started = time.perf_counter()
        step()
        wait(device)
        if "seconds_of_first" in row:
            row["seconds_of_first"][arm] = round(time.perf_counter() - started, 1)
        row["milliseconds"][arm] = round(1e3 * _seconds(step, device), 3)
        if device == "cuda":
            row["peak_gib"][arm] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    except Exception as error:
        row.setdefault("failed", {})[arm] = f"{type(error).__name__}: {error}"[:300]
    finally:
        del step
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def _computing(precision: str, device: str) -> AbstractContextManager:
    if precision != "bfloat16" or device == "cpu":  # most processors only emulate it
        return nullcontext()
    return torch.autocast(device, dtype=torch.bfloat16)


def _seconds(work: Callable[[], object], device: str) -> float:
    """Median of runs after one to warm up; on a GPU by its own events."""
    work()
    wait(device)
    began, times = time.perf_counter(), []
    while len(times) < 3 or (device == "cuda" and len(times) < 20 and time.perf_counter() - began < SECONDS_AN_ARM):
        if device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        else:
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def wait(device: str) -> None:
    """Until a GPU has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
