"""What every network that can be named in a plan costs, and the AD-NeXt paper's Table 4 beside our counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adnext_plugin.errors import SettingsError, UnknownNameError, nearest_names
from adnext_plugin.registry import NETWORKS, registered_names
from adnext_plugin.workflows.common import Tell

if TYPE_CHECKING:
    from adnext_plugin.networks.costs import NetworkCosts
    from adnext_plugin.networks.table4 import Comparison
    from adnext_plugin.networks.training_costs import TrainingCosts


@dataclass(frozen=True, kw_only=True)
class Request:
    """Networks by name (none: all there are), and what they are built for.

    `measure`: also train them for some steps of `batch_size` scans, on `device` (auto: a GPU where there is one).
    """

    input_size_voxels: tuple[int, int, int] = (128, 128, 128)
    in_channels: int = 1
    num_outputs: int = 2
    names: tuple[str, ...] = ()
    batch_size: int = 1
    measure: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        known = registered_names(NETWORKS)
        for name in self.names:
            if name not in known:
                raise UnknownNameError(f"no network {name!r}{nearest_names(name, known)}")
        for option, values in (
            ("--input-size", self.input_size_voxels),
            ("--channels", (self.in_channels,)),
            ("--outputs", (self.num_outputs,)),
            ("--batch-size", (self.batch_size,)),
        ):
            if min(values) < 1:
                raise SettingsError(f"{option} must be positive, got {' '.join(map(str, values))}")


@dataclass(frozen=True, kw_only=True)
class Result:
    """In the order asked for: what a scan costs, and what a step of training does where that was measured."""

    networks: "tuple[tuple[NetworkCosts, TrainingCosts], ...]"


def count_costs(request: Request, tell: Tell) -> Result:
    """Count parameters and multiply-adds, and measure steps of training; what is wrong with one network is told.

    Raises:
        SettingsError: there is no GPU to measure on.
    """
    import torch

    from adnext_plugin.networks.costs import count
    from adnext_plugin.networks.training_costs import TrainingCosts, measure
    from adnext_plugin.progress import progress_bar

    device = request.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("--device cuda: PyTorch sees no GPU here; measure with --device cpu")
    found = []
    for name in progress_bar(request.names or registered_names(NETWORKS), unit="network"):
        build = (name, request.in_channels, request.num_outputs, request.input_size_voxels)
        costs, step = count(*build), TrainingCosts()
        if request.measure and not costs.problem:
            step = measure(*build, request.batch_size, device)
        if problem := costs.problem or step.problem:
            tell(f"{name}: {problem}")
        found.append((costs, step))
    return Result(networks=tuple(found))


def compare_with_table4(names: Sequence[str] = ()) -> "list[Comparison]":
    """Rows of the paper's Table 4 beside our counts; those of some networks, or all.

    Raises:
        SettingsError: the table has none of these networks.
    """
    from adnext_plugin.networks.table4 import PAPER, compare
    from adnext_plugin.progress import progress_bar

    asked_for = [row for row in PAPER if not names or row.name in names]
    if not asked_for:
        raise SettingsError(f"--names: Table 4 has {', '.join(row.name for row in PAPER)}")
    return [compare(row) for row in progress_bar(asked_for, unit="network")]
