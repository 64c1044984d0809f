"""In which precision networks compute: chosen when a run begins, kept beside its weights, used again to predict."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from adnext_plugin.networks.classifier import has_batch_norm
from adnext_plugin.settings import Precision, PrecisionSetting

HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
AMPERE = (8, 0)  # compute capability: the first GPUs with TF32 and bfloat16


def chosen(setting: PrecisionSetting, network: nn.Module, device: torch.device) -> Precision:
    """What a new run computes in.

    On a GPU `auto` is TF32 for networks with batch norm: what differs between people is there a small part of what
    they share, and drowns in bfloat16 (scores of AD-NeXt-T from scratch are off by a quarter of their standard
    deviation, by 1.6 % in TF32). It is bfloat16 for all others, or float16 on GPUs that only emulate that.
    """
    if setting != "auto":
        wanted: Precision = setting
    elif device.type != "cuda" or has_batch_norm(network):
        wanted = "tf32" if device.type == "cuda" else "float32"
    else:
        wanted = "bfloat16" if _has_bfloat16() else "float16"
    return Arithmetic(precision=wanted, device=device).used


def of_earlier_version(device: torch.device) -> Precision:
    """What versions computed in that did not write it down: mixed precision on a GPU, float32 elsewhere."""
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if _has_bfloat16() else "float16"


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """How networks compute on a device; `precision` is the run's, which a device may be unable to do."""

    precision: Precision
    device: torch.device

    @property
    def used(self) -> Precision:
        """The run's precision, or float32 where the device cannot do it."""
        is_possible = {
            "float32": True,
            "tf32": self.device.type == "cuda" and torch.cuda.get_device_capability() >= AMPERE,
            "bfloat16": self.device.type == "cpu" or (self.device.type == "cuda" and _has_bfloat16()),
            "float16": self.device.type == "cuda",
        }
        return self.precision if is_possible[self.precision] else "float32"

    @property
    def shortfall(self) -> str | None:
        """A line for where the device cannot do it."""
        if self.used == self.precision:
            return None
        return f"{self.precision} cannot be had on this {self.device.type} device, so networks compute in float32"

    @property
    def scales_gradients(self) -> bool:
        """Whether small gradients would be lost without a factor."""
        return self.used == "float16"

    def set_products(self) -> None:
        """On a GPU, let matrix products and convolutions of float32 be rounded to TF32, or not, from now on."""
        if self.device.type == "cuda":
            # by the older of two interfaces: torch's own compiler refuses settings that the older one cannot express
            torch.backends.cuda.matmul.allow_tf32 = self.used == "tf32"
            torch.backends.cudnn.allow_tf32 = self.used == "tf32"  # on by default

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """For a forward pass."""
        before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        self.set_products()
        half = HALF.get(self.used)
        try:
            with nullcontext() if half is None else torch.autocast(self.device.type, dtype=half):
                yield
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _has_bfloat16() -> bool:
    # V100 and T4 emulate it, slowly
    return torch.cuda.is_bf16_supported(including_emulation=False)
