"""Part of the acceptance on a GPU: kernels beside float64 and PyTorch, and their share of the roofline.

    kernels(device, tiny, folder)   {"correctness": ..., "depthwise": ..., "depthwise_of_large_batch": ...,
                                     "depthwise_among_visible": ..., "response_norm": ..., "layer_norm": ...}

Times are microseconds of the GPU for one call, the launches of several lined up beforehand. The roofline of a depthwise
convolution is the larger of its multiply-adds (taps outside of the volume included) at the fp32 peak and of one read
and one write at the memory's. On a CPU nothing is timed, and PyTorch's own computations stand in for the kernels.
"""

import json
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from adnext_plugin.networks.kernels.choice import Shape, fastest_plan, milliseconds_on_gpu
from adnext_plugin.networks.kernels.depthwise import (
    CHANNELS_LAST,
    CONTIGUOUS,
    DepthwisePlan,
    convolved,
    default_plan,
    depthwise3d,
    filters_of,
    numbers_of,
    summed_weight_gradient,
)
from adnext_plugin.networks.kernels.depthwise_visible import (
    cell_edge,
    depthwise3d_visible,
    depthwise3d_visible_backward,
)
from adnext_plugin.networks.kernels.layer_norm import layer_norm
from adnext_plugin.networks.kernels.response_norm import gelu_response_norm
from adnext_plugin.networks.kernels.triton_here import failure
from adnext_plugin.networks.layers.norms import GlobalResponseNorm
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_depthwise import tables_of_cells
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches, whole_volume
from adnext_plugin.pretraining.masks import draw_visible

BATCH, LARGE_BATCH, KERNEL_SIZE, MASKED = 4, 16, 7, 0.6
STAGES = ((32, 64), (16, 128), (8, 256), (4, 512))  # tokens along an axis and channels, AD-NeXt-B at 128³
LONGEST_IN_FLOAT32 = 8  # axis at which float32 is compared as well: each size and precision has to be compiled
WAIT_CYCLES = 3_000_000
FP32_LANES, HBM_BYTES_PER_SECOND = 128, {"H100": 3.35e12, "H200": 4.8e12, "A100": 2.0e12}


def kernels(device: str, tiny: bool, folder: Path) -> dict:
    """Correctness and times of every kernel at the stages of AD-NeXt-B; with `tiny` at one small size."""
    stages = ((4, 8),) if tiny else STAGES
    parts: dict[str, Callable[[int, int, str], dict]] = {
        "correctness": _correctness,
        "depthwise": _depthwise,
        "depthwise_of_large_batch": partial(_depthwise, batch=LARGE_BATCH),
        "depthwise_among_visible": _among_visible,
        "response_norm": _response_norm,
        "layer_norm": _layer_norm,
    }
    found: dict[str, dict] = {}
    for part, measure in parts.items():
        found[part] = {}
        for length, channels in stages:
            name = f"{length}x{length}x{length} tokens, {channels} channels"
            try:
                found[part][name] = measure(length, channels, device)
            except Exception as error:  # one that fails must not hide the others
                found[part][name] = {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
            (folder / "found.json").write_text(json.dumps(found))
    found["triton"] = {"failure": failure()}
    return found


def _correctness(length: int, channels: int, device: str) -> dict:
    """Largest differences from float64, relative to the largest value."""
    plan = default_plan((length,) * 3, channels, BATCH)
    if device == "cpu":
        plan = DepthwisePlan(forward=CHANNELS_LAST, grad_input=CHANNELS_LAST, grad_weight=CHANNELS_LAST)
    found = {}
    for dtype in (torch.float32, torch.bfloat16) if length <= LONGEST_IN_FLOAT32 else (torch.bfloat16,):
        x, grad, filters, bias = _data(length, channels, device, dtype)
        inputs = [one.clone().requires_grad_() for one in (x, filters, bias)]
        y = depthwise3d(*inputs, plan.numbers())
        ours = (y, *torch.autograd.grad(y, inputs, grad))
        repeats = torch.equal(torch.autograd.grad(depthwise3d(*inputs, plan.numbers()), inputs, grad)[1], ours[2])
        exact = [one.double().requires_grad_() for one in (x, filters, bias)]
        weight = exact[1].permute(3, 0, 1, 2)[:, None]
        volume = exact[0].permute(0, 4, 1, 2, 3).contiguous()
        y = F.conv3d(volume, weight.contiguous(), exact[2], padding=KERNEL_SIZE // 2, groups=channels)
        y = y.permute(0, 2, 3, 4, 1)
        theirs = (y, *torch.autograd.grad(y, exact, grad.double()))
        names = ("output", "grad_input", "grad_weight", "grad_bias")
        errors = {name: _error(*pair) for name, *pair in zip(names, ours, theirs, strict=True)}
        found[str(dtype).removeprefix("torch.")] = {**errors, "weight_gradient_repeats": repeats}
    return found


def _depthwise(length: int, channels: int, device: str, batch: int = BATCH) -> dict:
    """Of bfloat16: what is chosen here, its time, PyTorch's, and the share of the roofline."""
    if device == "cpu":
        return {"skipped": "needs a GPU"}
    shape = Shape(kernel_size=KERNEL_SIZE, channels=channels, size_zyx=(length,) * 3)
    plan = fastest_plan(shape, batch, torch.bfloat16, torch.device(device))
    x, grad, filters, bias = _data(length, channels, device, torch.bfloat16, batch)
    runs: dict[str, tuple] = {
        "forward": (plan.forward, 5, lambda tile: convolved(x, filters, bias, tile, flip=False)),
        "grad_input": (plan.grad_input, 5, lambda tile: convolved(grad, filters, None, tile, flip=True)),
        "grad_weight": (plan.grad_weight, 7, lambda tile: summed_weight_gradient(x, grad, KERNEL_SIZE, tile)),
    }
    ideal = _roofline_us(length, channels, batch)
    found = {}
    for name, (chosen, numbers, run) in runs.items():
        times = {}
        for way, tile in (("ours", chosen), ("contiguous", CONTIGUOUS), ("channels_last", CHANNELS_LAST)):
            calls = 20 if way == "ours" else 3
            times[f"{way}_us"] = _microseconds(partial(run, numbers_of(tile, numbers)), calls)
        found[name] = {"chosen": str(chosen), **times, "roofline_share": round(ideal / times["ours_us"], 3)}
    return {"roofline_us": round(ideal, 2), **found}


def _among_visible(length: int, channels: int, device: str) -> dict:
    """Patches of 32 voxels of which 60 % are masked: errors, and times of the kernels beside those of whole volumes."""
    side = max(1, length // 4)
    visible = draw_visible((length // side,) * 3, MASKED, [(0, sample) for sample in range(LARGE_BATCH)])
    patches = VisiblePatches(visible, torch.device(device), int(visible[0].sum()))
    edge = cell_edge(side, KERNEL_SIZE)
    tables = tables_of_cells(patches, side, KERNEL_SIZE, edge)
    if device == "cpu":
        return {"cells": len(tables[0]), "skipped": "needs a GPU"}
    _, _, filters, bias = _data(1, channels, device, torch.bfloat16)
    x, grad = (_random(device, torch.bfloat16, patches.count, side, side, side, channels) for _ in range(2))
    inputs = [one.clone().requires_grad_() for one in (x, filters, bias)]
    y = depthwise3d_visible(*inputs, edge, tables)
    ours = (y, *torch.autograd.grad(y, inputs, grad))
    rows, size = patches.rows_in_volume(side), (len(visible), *[length] * 3)
    exact = [one.double().requires_grad_() for one in (x, filters, bias)]
    volume = whole_volume(exact[0].view(-1, channels), rows, size).permute(0, 4, 1, 2, 3)
    weight = exact[1].permute(3, 0, 1, 2)[:, None]
    whole = F.conv3d(volume, weight, exact[2], padding=KERNEL_SIZE // 2, groups=channels)
    convolved_64 = whole.permute(0, 2, 3, 4, 1).reshape(-1, channels)[rows].view(x.shape)
    theirs = (convolved_64, *torch.autograd.grad(convolved_64, exact, grad.double()))
    names = ("output", "grad_input", "grad_weight", "grad_bias")
    found: dict = {name: _error(*pair) for name, *pair in zip(names, ours, theirs, strict=True)}
    del exact, volume, whole, convolved_64, theirs
    forward = _microseconds(lambda: depthwise3d_visible(x, filters, bias, edge, tables), 20)
    backward = _microseconds(lambda: depthwise3d_visible_backward(grad, x, filters, edge, tables), 20)
    return found | {"forward_us": forward, "backward_us": backward}


def _response_norm(length: int, channels: int, device: str) -> dict:
    """GELU with response norm of four times the channels, bfloat16."""
    x = _random(device, torch.bfloat16, BATCH, length, length, length, 4 * channels).requires_grad_()
    norm = GlobalResponseNorm(4 * channels).to(device)
    torch.nn.init.normal_(norm.gamma)
    torch.nn.init.normal_(norm.beta)
    weights = norm.gamma, norm.beta

    def ours() -> torch.Tensor:
        return gelu_response_norm(x, norm.gamma, norm.beta, None, BATCH, norm.eps)[0]

    def theirs() -> torch.Tensor:
        return norm(F.gelu(x))

    exact = GlobalResponseNorm(4 * channels).to(device).double()
    exact.load_state_dict(norm.state_dict())
    x64 = x.detach().double().requires_grad_()
    return _compared(
        ours, theirs, (x, *weights), lambda: exact(F.gelu(x64)), (x64, exact.gamma, exact.beta), device, (3, 5)
    )


def _layer_norm(length: int, channels: int, device: str) -> dict:
    """From bfloat16 to bfloat16; PyTorch's by way of float32, as autocast has it."""
    x = _random(device, torch.bfloat16, BATCH, length, length, length, channels).requires_grad_()
    weight, bias = (_random(device, torch.float32, channels).requires_grad_() for _ in range(2))
    exact = [one.detach().double().requires_grad_() for one in (x, weight, bias)]
    return _compared(
        lambda: layer_norm(x, weight, bias, 1e-6, torch.bfloat16)[0],
        lambda: F.layer_norm(x.float(), (channels,), weight, bias, 1e-6).to(torch.bfloat16),
        (x, weight, bias),
        lambda: F.layer_norm(exact[0], (channels,), exact[1], exact[2], 1e-6),
        tuple(exact),
        device,
        (2, 3),
    )


def _compared(
    ours: Callable, theirs: Callable, inputs: tuple, exact: Callable, exact_inputs: tuple, device: str, passes: tuple
) -> dict:
    """Errors against float64, and times forward and backward; `passes` over the tokens that each needs at least."""
    y = exact()
    grad = _random(device, torch.bfloat16, *y.shape)
    wanted = (y, *torch.autograd.grad(y, exact_inputs, grad.double()))
    found: dict = {}
    for name, run in (("ours", ours), ("stock", theirs)):
        if device == "cpu" and name == "ours":
            continue  # a kernel needs a GPU
        out = run()
        got = (out, *torch.autograd.grad(out, inputs, grad, retain_graph=True))
        names = ("output", "grad_input", "grad_weight", "grad_bias")
        found[name] = {"errors": {key: _error(*pair) for key, *pair in zip(names, got, wanted, strict=True)}}
        if device != "cpu":
            with torch.no_grad():
                found[name]["forward_us"] = _microseconds(run, 20)
            found[name]["backward_us"] = _microseconds(
                lambda out=out: torch.autograd.grad(out, inputs, grad, retain_graph=True), 20
            )
    if device != "cpu":
        bytes_of_pass = inputs[0].numel() * inputs[0].element_size()
        found["memory_us"] = [round(count * bytes_of_pass / _bandwidth() * 1e6, 1) for count in passes]
    return found


def _data(length: int, channels: int, device: str, dtype: torch.dtype, batch: int = BATCH) -> tuple[torch.Tensor, ...]:
    size = (batch, length, length, length, channels)
    x, grad = (_random(device, dtype, *size) for _ in range(2))
    weight = _random(device, torch.float32, channels, 1, *[KERNEL_SIZE] * 3) / 18
    return x, grad, filters_of(weight).contiguous(), _random(device, torch.float32, channels)


def _random(device: str, dtype: torch.dtype, *size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(sum(size))).to(device=device, dtype=dtype)


def _error(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one.detach().double(), other.detach().double()
    return ((one - other).abs().max() / other.abs().max()).item()


def _microseconds(run: Callable[[], object], calls: int) -> float:
    """Of one call on the GPU, the median of five times."""
    run()
    return round(1000 * statistics.median(milliseconds_on_gpu(run, calls, WAIT_CYCLES) for _ in range(5)), 2)


def _roofline_us(length: int, channels: int, batch: int) -> float:
    tokens = batch * length**3
    about = torch.cuda.get_device_properties(0)
    clock_hz = getattr(about, "clock_rate", 1_980_000) * 1e3
    peak = 2 * FP32_LANES * about.multi_processor_count * clock_hz
    arithmetic = 2 * KERNEL_SIZE**3 * tokens * channels / peak
    return 1e6 * max(arithmetic, 2 * tokens * channels * 2 / _bandwidth())


def _bandwidth() -> float:
    name = torch.cuda.get_device_name()
    return next((speed for kind, speed in HBM_BYTES_PER_SECOND.items() if kind in name), 3.35e12)
