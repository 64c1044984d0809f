"""Training on a GPU beside the same on a CPU: equal steps, what precision costs, parts of batches, memory estimated."""

import copy
import statistics
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from adnext_plugin.batch import Batch
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.recomputation import recompute_in
from adnext_plugin.plan import NetworkSettings, Plan, PreprocessingSettings
from adnext_plugin.pretraining.objective import objective_of
from adnext_plugin.records import to_json
from adnext_plugin.registry import NETWORKS as NETWORKS_OF_ALL
from adnext_plugin.registry import registered_names
from adnext_plugin.settings import Precision, PretrainingSettings
from adnext_plugin.training.memory import needed_of_parts
from adnext_plugin.training.precision import Arithmetic

PAPER = {"init": "fan_in", "drop_path_rate": 0.0}
SMALL = {**PAPER, "stem": "convolutional", "head_norm": "batch"}
NETWORKS = {
    "adnext_t": ("adnext_t", PAPER),
    "adnext_t, small": ("adnext_t", SMALL),
    "adnext_b": ("adnext_b", PAPER),
    "mednext_b_k3": ("mednext_b_k3", {}),
    "resnet10": ("resnet10", {}),
}
LADDER: tuple[Precision, ...] = ("float32", "tf32", "float16", "bfloat16")
MEMORY: tuple[tuple[str, dict, int, Precision], ...] = (
    ("adnext_t", PAPER, 4, "bfloat16"),
    ("adnext_b", PAPER, 4, "bfloat16"),
    ("adnext_b", PAPER, 4, "tf32"),
    ("adnext_l", PAPER, 4, "bfloat16"),
    ("adnext_t", SMALL, 8, "tf32"),
    ("mednext_b_k3", {}, 2, "bfloat16"),
    ("mednext_v2", {}, 1, "bfloat16"),
    ("densenet121", {}, 4, "tf32"),
)
MEMORY_COMPUTED_AGAIN = [row for row in MEMORY if row[0] in ("adnext_l", "mednext_v2")]
STEPS = 3
EDGES = {"liu_cnn": 71, "polimi_cnn": 87, "resenc_l": 64}  # of networks that cannot take 32³ voxels
LARGE = 300  # standard deviations of a scan's voxels: their squares are more than float16 holds


def training(device: str, tiny: bool, folder: Path) -> dict:
    """Every check by name: what it found, or how it failed."""
    names = ["adnext_t", "adnext_t, small"] if tiny else list(NETWORKS)
    checks: dict[str, Callable[[], dict]] = {}
    for name in names:
        checks[f"steps on both devices, {name}"] = lambda name=name: _same_steps(name, torch.device(device))
    for backend in ("gathered", "masked_dense"):
        checks[f"pre-training on both devices, {backend}"] = lambda backend=backend: _same_pretraining(backend, device)
    for name in names[:2]:
        checks[f"precision, {name}"] = lambda name=name: _ladder(name, torch.device(device), tiny)
    for name in ["adnext_t"] if tiny else registered_names(NETWORKS_OF_ALL):
        checks[f"16 bits, {name}"] = lambda name=name: _sixteen_bits(name, device)
    checks["parts of batches"] = lambda: _parts(torch.device(device))
    if device == "cuda":
        for row in MEMORY:
            checks[f"memory, {row[0]}, batch {row[2]}, {row[3]}"] = lambda row=row: _memory(*row)
        for row in MEMORY_COMPUTED_AGAIN:
            checks[f"memory, {row[0]}, batch {row[2]}, {row[3]}, blocks computed again"] = lambda row=row: _memory(
                *row, recompute=True
            )
    return {name: _guarded(check) for name, check in checks.items()}


def _guarded(check: Callable[[], dict]) -> dict:
    try:
        return check()
    except Exception as error:  # one failure must not hide the others
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _network(name: str, size: int = 32) -> nn.Module:
    torch.manual_seed(0)
    registered, options = NETWORKS[name]
    return build_network(NetworkSettings(name=registered, options=options), 1, 2, (size, size, size)).train()


def _scans(count: int, size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, of which every second has a dark hole in the middle."""
    generator = torch.Generator().manual_seed(1)
    targets = torch.arange(count) % 2
    images = torch.randn(count, 1, size, size, size, generator=generator)
    middle = slice(size // 3, 2 * size // 3)
    images[targets == 1, :, middle, middle, middle] -= 1
    return images, targets


def _train(network: nn.Module, arithmetic: Arithmetic, steps: int, batch: int = 4) -> list[float]:
    """Losses of steps of AdamW."""
    arithmetic.set_products()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    images, targets = (tensor.to(arithmetic.device) for tensor in _scans(batch * steps))
    losses = []
    for part, answers in zip(images.split(batch), targets.split(batch), strict=True):
        optimizer.zero_grad()
        with arithmetic():
            loss = F.cross_entropy(network(part), answers)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _same_steps(name: str, device: torch.device) -> dict:
    """Losses of the same steps in float32 on the CPU and on the device, and how far gradients of the first differ."""
    there = _network(name)
    here = copy.deepcopy(there)
    there.to(device)
    arithmetic = Arithmetic(precision="float32", device=device)
    arithmetic.set_products()
    images, targets = _scans(4)
    for network, where in ((here, torch.device("cpu")), (there, device)):
        F.cross_entropy(network(images.to(where)), targets.to(where)).backward()
    gradients = _relative(there, here)
    for network in (here, there):
        network.load_state_dict(_network(name).state_dict())
    losses = [
        _train(here, Arithmetic(precision="float32", device=torch.device("cpu")), STEPS),
        _train(there, arithmetic, STEPS),
    ]
    apart = max(abs(one - other) for one, other in zip(*losses, strict=True))
    return {"gradients_differ_by": gradients, "losses_differ_by": apart, "losses": losses[1]}


def _relative(there: nn.Module, here: nn.Module) -> float:
    """Distance of two networks' gradients over their length."""
    pairs = [
        (one.grad.double().cpu(), other.grad.double())
        for one, other in zip(there.parameters(), here.parameters(), strict=True)
        if one.grad is not None and other.grad is not None
    ]
    apart = sum(float((one - other).square().sum()) for one, other in pairs)
    return (apart / sum(float(other.square().sum()) for _, other in pairs)) ** 0.5


def _same_pretraining(backend: str, device: str) -> dict:
    """Loss and gradient of masked pre-training in float32 on both devices."""
    size = (64, 32, 32)
    options = {"sparse_backend": backend, "mask_ratio": 0.5, "decoder_width": 16}
    settings = PretrainingSettings(objective="fcmae", options=options)
    preprocessing = PreprocessingSettings(input_size_voxels=size, spacing_mm=(2.0, 2.0, 2.0))
    plan = Plan(preprocessing=preprocessing, network=NetworkSettings(name="adnext_t", options=PAPER))
    found = []
    batch = Batch(torch.randn(2, 1, *size), torch.zeros(2, dtype=torch.int64), torch.zeros(2, 0), torch.arange(2))
    for where in (torch.device("cpu"), torch.device(device)):
        settled = to_json(objective_of(settings, "acceptance").settled(plan, 1, settings, where))
        objective = objective_of(PretrainingSettings(objective="fcmae", options=settled), "acceptance")
        torch.manual_seed(0)
        network = objective.build(plan, 1).train().to(where)
        Arithmetic(precision="float32", device=where).set_products()
        loss = objective.loss(network, batch.to(where), [(1, 2, 3), (1, 2, 4)])
        loss.backward()
        found.append((network, loss.item()))
    (here, on_cpu), (there, on_device) = found
    return {"loss_differs_by": abs(on_cpu - on_device), "gradients_differ_by": _relative(there, here)}


@torch.no_grad()
def _scores(network: nn.Module, arithmetic: Arithmetic, images: torch.Tensor) -> list[float]:
    with arithmetic():
        logits = torch.cat([network(part.to(arithmetic.device)).cpu() for part in images.split(8)])
    return (logits[:, 1] - logits[:, 0]).double().tolist()


def _ladder(name: str, device: torch.device, tiny: bool) -> dict:
    """How far scores in every precision are from those in float32, as a share of their standard deviation."""
    network = _network(name).to(device)
    _train(network, Arithmetic(precision="float32", device=device), 2 if tiny else 40, 8)
    network.eval()
    images, _ = _scans(16 if tiny else 64)
    scores = {one: _scores(network, Arithmetic(precision=one, device=device), images) for one in LADDER}
    exact = scores.pop("float32")
    spread = statistics.stdev(exact)
    used = {one: Arithmetic(precision=one, device=device).used for one in scores}
    return {
        one: {
            "computed_in": used[one],
            "off_by_share_of_sd": statistics.mean(abs(a - b) for a, b in zip(found, exact, strict=True)) / spread,
            "distinct_scores": len(set(found)),
        }
        for one, found in scores.items()
    }


@torch.no_grad()
def _sixteen_bits(name: str, device: str) -> dict:
    """How far logits in 16 bits are from those in float32, over their length, and whether large inputs overflow."""
    size = (EDGES.get(name, 32),) * 3
    torch.manual_seed(0)
    network = build_network(NetworkSettings(name=name), 1, 2, size).eval().to(device)
    images = torch.randn(4, 1, *size).to(device)
    Arithmetic(precision="float32", device=torch.device(device)).set_products()
    exact, found = network(images), {}
    for half in (torch.bfloat16,) if device == "cpu" else (torch.bfloat16, torch.float16):
        with torch.autocast(device, dtype=half):
            rounded, large = network(images).float(), network(LARGE * images)
        found[str(half).removeprefix("torch.")] = {
            "logits_differ_by": ((rounded - exact).norm() / exact.norm()).item(),
            "finite_where_scans_are_large": bool(large.isfinite().all()),
        }
    return found


def _parts(device: torch.device) -> dict:
    """How far the gradient of a batch in two parts is from that of the whole, for a network without batch norm."""
    whole = _network("adnext_t").to(device)
    parts = copy.deepcopy(whole)
    images, targets = (tensor.to(device) for tensor in _scans(4))
    Arithmetic(precision="float32", device=device).set_products()
    F.cross_entropy(whole(images), targets).backward()
    for part, answers in zip(images.split(2), targets.split(2), strict=True):
        (F.cross_entropy(parts(part), answers) / 2).backward()
    return {"gradients_differ_by": _relative(parts.cpu(), whole.cpu())}


def _memory(name: str, options: dict, batch: int, precision: Precision, *, recompute: bool = False) -> dict:
    """The most memory that two steps had, beside the estimate."""
    device, size = torch.device("cuda"), 128
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    network = build_network(NetworkSettings(name=name, options=options), 1, 2, (size, size, size)).to(device).train()
    if recompute:
        recompute_in(network)
    arithmetic = Arithmetic(precision=precision, device=device)
    arithmetic.set_products()
    estimate = needed_of_parts(network, [(1, size, size, size)], arithmetic.used, batch)[0]
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    images = torch.randn(batch, 1, size, size, size, device=device)
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True)
        with arithmetic():
            loss = network(images).square().mean()
        loss.backward()
        optimizer.step()
    peak = torch.cuda.max_memory_allocated() - before
    return {
        "peak_gib": peak / 2**30,
        "reserved_gib": torch.cuda.max_memory_reserved() / 2**30,
        "estimated_gib": estimate / 2**30,
        "estimate_over_peak": estimate / peak,
    }
