"""What can be known of the kernels for depthwise convolutions without a GPU: compiled for an H100, and counted.

    python benchmarks/kernels_without_gpu.py [--dry]

`compiled`: of each kernel by cells, in bfloat16 at the stages of AD-NeXt-B, the registers of a thread, bytes that are
spilled to memory, seconds to compile, and instructions to each product (a multiply-add of 32 channels), of all the code
there is, however often which part of it is run.
`compiled_for_mednext`: the same of the kernels by tiles, at the levels of MedNeXt-B at 128³, of the tile tried first.
`products`: which part of the products that lie within a volume the convolution among visible patches makes with 60 %
masked, and which part of those of all taps lies within it.

Triton and the assembler that comes with it are needed, no GPU and no driver. Prints JSON and writes it to
benchmarks/results/kernels_without_gpu.json unless --dry.
"""

import argparse
import json
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from adnext_plugin.networks.kernels import depthwise_cells_triton as kernels
from adnext_plugin.networks.kernels import depthwise_triton
from adnext_plugin.networks.kernels.depthwise import PLANES, convolution_tiles, weight_tiles
from adnext_plugin.networks.kernels.depthwise_visible import PAIRS, cell_edge, reach
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_depthwise import tables_of_cells
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches
from adnext_plugin.pretraining.masks import draw_visible
from adnext_plugin.training.provenance import provenance

H100 = GPUTarget("cuda", 90, 32)
STAGES = ((32, 64), (16, 128), (8, 256), (4, 512))  # tokens along an axis and channels, AD-NeXt-B at 128³
KERNEL_SIZE, WIDTH, PATCHES, MASKED, SAMPLES = 7, 64, 4, 0.6, 16
MEDNEXT_LEVELS, MEDNEXT_KERNELS, MEDNEXT_BATCH = ((128, 32), (64, 64), (32, 128), (16, 256)), (3, 5), 2
PROCESSORS = 132  # of an H100
POINTERS = {"x_ptr": "*bf16", "y_ptr": "*bf16", "grad_ptr": "*bf16"} | dict.fromkeys(
    ("filter_ptr", "bias_ptr", "partial_ptr"), "*fp32"
)
RESULT = Path(__file__).parent / "results" / "kernels_without_gpu.json"


def main() -> None:
    """Compile, count and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="write no result file")
    arguments = parser.parse_args()
    report = {
        "made_by": provenance() | {"triton": triton.__version__},
        "compiled": {
            f"{length}x{length}x{length}, {channels}": compiled(length, channels) for length, channels in STAGES
        },
        "compiled_for_mednext": {
            f"{length}x{length}x{length}, {channels}, kernel {kernel_size}": by_tiles(length, channels, kernel_size)
            for kernel_size in MEDNEXT_KERNELS
            for length, channels in MEDNEXT_LEVELS
        },
        "products": {f"{length}x{length}x{length}": products(length) for length, _ in STAGES},
    }
    text = json.dumps(report, indent=1)
    if not arguments.dry:
        RESULT.write_text(text + "\n")
    print(text)


def compiled(length: int, channels: int) -> dict[str, dict]:
    """The kernels of a stage, by name."""
    side = length // PATCHES
    edge = cell_edge(side, KERNEL_SIZE)
    common = {"C": channels, "K": KERNEL_SIZE, "E": edge, "BC": WIDTH}
    ways = {"FLIP": False, "BIAS": True}
    found = {}
    if edge == PLANES:
        found["convolution"] = statistics_of(kernels.convolve_planes, 1, **common, **ways, S=side)
        of_patches = {"SZ": side**2, "SY": side, "NZ": 0, "NY": 0, "NX": 0}
        found["filters"] = statistics_of(kernels.weight_gradient_of_planes, 1, **common, **of_patches)
    else:
        wide = 2 * reach(edge, KERNEL_SIZE) + 1
        found["convolution"] = statistics_of(kernels.convolve_cells, 1, **common, **ways, S=side, W=wide)
        of_filters = {key: value for key, value in common.items() if key != "K"}
        found["filters"] = statistics_of(kernels.weight_gradient_of_cells, PAIRS, **of_filters, S=side, R=PAIRS)
    grid = dict.fromkeys(("NZ", "NY", "NX"), length // PLANES)
    of_volumes = {**common, "E": PLANES, "SZ": length**2, "SY": length, **grid}
    found["filters_of_whole_volumes"] = statistics_of(kernels.weight_gradient_of_planes, 1, **of_volumes)
    return found


def by_tiles(length: int, channels: int, kernel_size: int) -> dict[str, dict]:
    """The kernels of a level whose programs take tiles, by name."""
    size = {"Z": length, "Y": length, "X": length, "C": channels, "K": kernel_size}
    tile = convolution_tiles((length,) * 3, channels)[0]
    taken = {"TZ": tile.planes, "TX": tile.tokens, "R": tile.rows, "BC": tile.channels, "SCHEDULE": tile.schedule}
    weight = weight_tiles((length,) * 3, channels, MEDNEXT_BATCH, PROCESSORS, kernel_size)[0]
    rows = min(weight.filter_rows, kernel_size)
    of_weight = {"KY": rows, "TX": weight.tokens, "R": weight.rows, "BC": weight.channels, "MERGE": weight.merge}
    return {
        "convolution": statistics_of(depthwise_triton.convolve, tile.rows, **size, **taken, FLIP=False, BIAS=True),
        "filters": statistics_of(depthwise_triton.weight_gradient, weight.rows, **size, **of_weight),
    }


def statistics_of(kernel: Any, warps: int, **constants: Any) -> dict[str, Any]:
    """Of a kernel compiled for an H100."""
    names = kernel.arg_names
    kinds = {name: POINTERS.get(name, "*i32" if name.endswith("_ptr") else "i32") for name in names}
    source = ASTSource(
        fn=kernel,
        signature={name: "constexpr" if name in constants else kind for name, kind in kinds.items()},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(at,): [["tt.divisibility", 16]] for at, name in enumerate(names) if name.endswith("_ptr")},
    )
    begun = time.monotonic()
    binary = triton.compile(source, target=H100, options={"num_warps": warps}).asm["cubin"]
    seconds = round(time.monotonic() - begun, 1)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary)
        code = _said(tools / "nvdisasm", "-c", path)
        usage = _said(tools / "cuobjdump", "-res-usage", path)
    instructions = len(re.findall(r"\n\s+/\*[0-9a-f]{4,5}\*/", code))
    return {
        "registers": int(re.findall(r"REG:(\d+)", usage)[0]),
        "spilled_bytes": int(re.findall(r"STACK:(\d+)", usage)[0]),
        "instructions": instructions,
        "instructions_a_product": round(instructions / len(re.findall(r"\bFFMA", code)), 2),
        "seconds_to_compile": seconds,
    }


def products(length: int) -> dict[str, float]:
    """Parts of a stage's products of outputs and taps."""
    side = length // PATCHES
    visible = draw_visible((PATCHES,) * 3, MASKED, [(0, sample) for sample in range(SAMPLES)])
    ones = torch.ones(1, 1, *[KERNEL_SIZE] * 3)
    within = F.conv3d(torch.ones(1, 1, *[length] * 3), ones, padding=KERNEL_SIZE // 2).sum().item() * SAMPLES
    edge = cell_edge(side, KERNEL_SIZE)
    patches = VisiblePatches(visible, torch.device("cpu"))
    around = tables_of_cells(patches, side, KERNEL_SIZE, edge)
    if edge == PLANES:
        tokens = visible[:, None].float()
        for axis in (2, 3, 4):
            tokens = tokens.repeat_interleave(side, axis)
        made = (F.conv3d(tokens, ones, padding=KERNEL_SIZE // 2) * tokens).sum().item()
    else:  # a pair of cells is multiplied whole, by zero where a tap does not reach
        made = around[2].sum().item() * edge**6
    return {
        "made_among_visible_of_those_within": round(made / within, 3),
        "within_the_volume_of_all": round(within / (SAMPLES * (length * KERNEL_SIZE) ** 3), 3),
    }


def _said(*words: object) -> str:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
