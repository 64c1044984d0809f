"""How each depthwise convolution of a network is computed on a GPU: measured when a run begins, then kept.

Measured are tiles of our kernels and PyTorch's own convolution in both layouts, in the precision and for the batch of
the run. Results of different choices differ by rounding only, but they do differ, so that a choice belongs to a run:
it is written down, shared by its processes and used again where the run is resumed.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import torch
from torch import nn

from adnext_plugin.networks.families.adnext import ADNeXtEncoder
from adnext_plugin.networks.families.mednext import MedNeXtEncoder
from adnext_plugin.networks.kernels.depthwise import (
    CHANNELS_LAST,
    CONTIGUOUS,
    ConvolutionTile,
    DepthwisePlan,
    WeightTile,
    convolution_tiles,
    convolved,
    numbers_of,
    summed_weight_gradient,
    weight_tiles,
)
from adnext_plugin.networks.kernels.triton_here import LARGEST, SWITCH, ceil_div, in_words, raising, switch, wanted
from adnext_plugin.records import from_json, record

SMALL = 1 << 28  # multiply-adds of a layer below which it is not worth while to compile more than one tile of a kind
WAIT_CYCLES = 2_000_000  # for which the GPU sleeps while the calls to be timed are lined up: about 1 ms
CALLS = 5
TOLERANCE = 0.05  # of the largest value; 16 bits are off by less than 0.01
PYTORCHS = DepthwisePlan(forward=CONTIGUOUS, grad_input=CONTIGUOUS, grad_weight=CONTIGUOUS)


def plans_from_json(content: Mapping[str, Any], where: str) -> dict[str, DepthwisePlan]:
    """Plans as a checkpoint holds them.

    Raises:
        SettingsError: they are of a version with other kernels.
    """
    return {shape: from_json(DepthwisePlan, plan, f"{where}, {shape}") for shape, plan in content.items()}


@record
class Shape:
    """A depthwise convolution: its kernel, and what it is given."""

    kernel_size: int
    channels: int
    size_zyx: tuple[int, int, int]
    of_volumes: bool = False  # as of `Planned`

    def __str__(self) -> str:
        places = "voxels" if self.of_volumes else "tokens"
        return f"{'x'.join(map(str, self.size_zyx))} {places}, {self.channels} channels, kernel {self.kernel_size}"


class Planned(Protocol):
    """What has a depthwise convolution, `conv`, and computes it as `plan` says, where that is not None.

    `of_volumes` says whether what it is given and gives, and the gradients of both, lie in memory as contiguous volumes
    (B, C, Z, Y, X), and without a plan it is PyTorch's for these; else channels come last.
    """

    of_volumes: bool
    plan: list[int] | None

    @property
    def conv(self) -> nn.Conv3d:
        """With stride 1 and an output of the input's size."""
        ...


def layers_by_shape(network: nn.Module, input_size_voxels: Sequence[int]) -> dict[Shape, list[Planned]]:
    """The depthwise convolutions of encoders in a network, by what an input of this size gives them."""
    found: dict[Shape, list[Planned]] = {}
    for encoder in network.modules():
        if not isinstance(encoder, ADNeXtEncoder | MedNeXtEncoder):
            continue
        levels: Sequence[Sequence[Planned]] = encoder.convolutions()
        for layers, stride in zip(levels, encoder.level_strides, strict=True):
            z, y, x = (ceil_div(length, stride) for length in input_size_voxels)
            for layer in layers:
                kernel_size, channels = layer.conv.kernel_size[0], layer.conv.in_channels
                shape = Shape(
                    kernel_size=kernel_size, channels=channels, size_zyx=(z, y, x), of_volumes=layer.of_volumes
                )
                found.setdefault(shape, []).append(layer)
    return found


def use_plans(network: nn.Module, input_size_voxels: Sequence[int], plans: Mapping[str, DepthwisePlan]) -> None:
    """Let a network's convolutions be computed as was chosen; those of which nothing was stay as they are."""
    for shape, layers in layers_by_shape(network, input_size_voxels).items():
        plan = plans.get(str(shape))
        if shape.of_volumes and (plan == PYTORCHS or not wanted()):
            plan = None  # PyTorch's for contiguous volumes is what the layer has by itself
        for layer in layers:
            layer.plan = None if plan is None else plan.numbers()


def fastest_plans(
    network: nn.Module, input_size_voxels: Sequence[int], batch: int, dtype: torch.dtype, device: torch.device
) -> dict[str, DepthwisePlan]:
    """Measure on this GPU.

    Args:
        network: with its convolutions.
        input_size_voxels: that it is fed.
        batch: scans that a process gives the network at a time.
        dtype: in which convolutions compute.
        device: the GPU; on any other device there is nothing to choose.

    Returns:
        Plans by shape; empty if `ADNEXT_KERNELS` asks for no choice, and none of shapes that kernels cannot address or
        that the GPU has too little memory to measure.
    """
    if device.type != "cuda" or not wanted() or switch() != "auto":
        return {}
    found = {}
    with torch.cuda.device(device), torch.no_grad():
        for shape in layers_by_shape(network, input_size_voxels):
            if batch * shape.channels * math.prod(shape.size_zyx) >= LARGEST:
                continue
            with suppress(torch.OutOfMemoryError):
                found[str(shape)] = fastest_plan(shape, batch, dtype, device)
            torch.cuda.empty_cache()  # what one shape leaves in pieces, the next or the first step may need whole
            if str(shape) not in found:
                warnings.warn(
                    f"{device} has too little memory to measure convolutions of {shape}, {batch} at a time; they are "
                    f"computed by {'PyTorch' if shape.of_volumes else 'kernels with the usual tiles'}",
                    stacklevel=2,
                )
    return found


def fastest_plan(shape: Shape, batch: int, dtype: torch.dtype, device: torch.device) -> DepthwisePlan:
    """The fastest way of each of the three computations of a convolution.

    Each is timed from what the layer is given to what it gives, with what it takes to bring that into another layout.
    """
    channels, size = shape.channels, shape.size_zyx
    x, grad = (_random(shape, batch, dtype, device) for _ in range(2))
    filters = torch.randn(*[shape.kernel_size] * 3, channels, device=device)
    bias = torch.randn(channels, device=device)
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    tiles = convolution_tiles(size, channels)
    weights = weight_tiles(size, channels, batch, processors, shape.kernel_size)
    if x.numel() * shape.kernel_size**3 < SMALL:
        tiles = tiles[:1]
        weights = list({tile.by_planes: tile for tile in reversed(weights)}.values())  # the first of each kind

    def forward(tile: ConvolutionTile | WeightTile | str) -> torch.Tensor:
        return convolved(x, filters, bias, numbers_of(tile, 5), flip=False, of_volumes=shape.of_volumes)

    def grad_input(tile: ConvolutionTile | WeightTile | str) -> torch.Tensor:
        return convolved(grad, filters, None, numbers_of(tile, 5), flip=True, of_volumes=shape.of_volumes)

    def grad_weight(tile: ConvolutionTile | WeightTile | str) -> torch.Tensor:
        return summed_weight_gradient(x, grad, shape.kernel_size, numbers_of(tile, 7))

    best = fastest(forward, tiles)
    # the input's gradient is the same convolution, so that what is best for one need not be compiled anew to be known
    return DepthwisePlan(
        forward=best,  # type: ignore[arg-type]
        grad_input=fastest(grad_input, [best] if isinstance(best, ConvolutionTile) else tiles[:1]),  # type: ignore[arg-type]
        grad_weight=fastest(grad_weight, weights),  # type: ignore[arg-type]
    )


def _random(shape: Shape, batch: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Tokens (B, Z, Y, X, C), in memory as the layer has them."""
    if shape.of_volumes:
        volume = torch.randn(batch, shape.channels, *shape.size_zyx, dtype=dtype, device=device)
        return volume.permute(0, 2, 3, 4, 1)
    return torch.randn(batch, *shape.size_zyx, shape.channels, dtype=dtype, device=device)


def fastest(
    run: Callable[[ConvolutionTile | WeightTile | str], torch.Tensor], tiles: Sequence[ConvolutionTile | WeightTile]
) -> ConvolutionTile | WeightTile | str:
    """The tile, or the layout of PyTorch's own, with which a computation takes the least time on the GPU.

    A kernel that computes otherwise than PyTorch is none of them, and one warning says so: no compiler and no GPU has
    been tried with all tiles.
    """
    expected: torch.Tensor | None = None
    best: tuple[float, ConvolutionTile | WeightTile | str] | None = None
    problems, wrong = [], []
    for tile in (CONTIGUOUS, *tiles, CHANNELS_LAST):
        is_ours = not isinstance(tile, str)
        try:
            with raising():
                found = run(tile)  # compiles
                expected = found if tile == CONTIGUOUS else expected
                if is_ours and expected is not None and (difference := largest_difference(found, expected)):
                    wrong.append(f"{tile}: {difference}")
                    continue
                milliseconds = _milliseconds(run, tile, best[0] if best else None)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # one tile may be too large for this GPU
            if is_ours:
                problems.append(in_words(error))
            continue
        if best is None or milliseconds < best[0]:
            best = milliseconds, tile
    if wrong:
        warnings.warn(
            f"{len(wrong)} of {len(tiles)} kernels in Triton compute otherwise than PyTorch on this GPU and are not "
            f"used ({wrong[0]}); please report it",
            stacklevel=2,
        )
    elif len(problems) >= len(tiles):
        warnings.warn(
            f"no kernel in Triton can be used here ({problems[0]}), so PyTorch's own are; {SWITCH}=stock does without "
            "this attempt",
            stacklevel=2,
        )
    return best[1] if best else CONTIGUOUS


def largest_difference(found: torch.Tensor, expected: torch.Tensor) -> str | None:
    """In words, how far two results of one computation are apart, where that cannot be rounding."""
    # in the results' own precision, as both may be as large as fits into memory
    scale, apart = (torch.linalg.vector_norm(one, math.inf).float() for one in (expected, found - expected))
    difference = (apart / scale).item()
    return None if difference <= TOLERANCE else f"off by {difference:.1%} of the largest value"


def _milliseconds(run: Callable, tile: ConvolutionTile | WeightTile | str, to_beat: float | None) -> float:
    """Of one call of what has been compiled; a rough figure where that already is far from the best."""
    rough = milliseconds_on_gpu(lambda: run(tile), 1)
    if to_beat is not None and rough > 3 * to_beat:
        return rough
    return min(milliseconds_on_gpu(lambda: run(tile), CALLS) for _ in range(3))


def milliseconds_on_gpu(call: Callable[[], Any], calls: int, wait_cycles: int = WAIT_CYCLES) -> float:
    """What the current GPU takes for a call, once all are lined up.

    Args:
        call: to be timed.
        calls: of which the mean is taken.
        wait_cycles: for which the GPU sleeps in the meantime.
    """
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda._sleep(wait_cycles)
    start.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / calls
