"""Whether kernels in Triton can be used, and what happens where one fails."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TypeVar

import torch

from adnext_plugin.errors import SettingsError

Value = TypeVar("Value")

SWITCH = "ADNEXT_KERNELS"
CHOICES = ("auto", "triton", "stock")
TYPES = (torch.float32, torch.float16, torch.bfloat16)
LARGEST = 2**31  # places are counted in 32 bits
OLDEST = (3, 4)  # Triton that compiles all kernels; PyTorch 2.8 comes with it

_failed: list[str] = []
_raises: list[bool] = []


def switch() -> str:
    """What `ADNEXT_KERNELS` says: `auto` (measure, then choose), `triton` (do not measure) or `stock` (PyTorch's).

    Raises:
        SettingsError: something else.
    """
    value = os.environ.get(SWITCH) or "auto"
    if value not in CHOICES:
        raise SettingsError(f"{SWITCH}={value!r} is not on offer; set it to one of {', '.join(CHOICES)}")
    return value


def wanted() -> bool:
    """Whether networks built now are to use kernels in Triton on GPUs.

    Raises:
        SettingsError: `ADNEXT_KERNELS` says something that is not on offer.
    """
    return switch() != "stock" and _can_compile()


def usable(x: torch.Tensor) -> bool:
    """Whether kernels in Triton can take these tokens."""
    return x.dtype in TYPES and 0 < x.numel() < LARGEST


def computed_in(x: torch.Tensor) -> torch.dtype:
    """The precision in which autocast lets a convolution or a linear layer compute, the tensor's own without."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def or_stock(run: Callable[[], Value], stock: Callable[[], Value]) -> Value:
    """What a kernel gives; PyTorch's answer, and one warning, where Triton cannot compile or start it.

    From the first failure on, all is PyTorch's.
    """
    if _raises:
        return run()
    if not _failed:
        try:
            return run()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler may fail in any way
            _failed.append(in_words(error))
            warnings.warn(
                f"a kernel in Triton cannot be used here ({_failed[0]}); PyTorch's own are used instead, which is "
                f"slower. {SWITCH}=stock does without this attempt.",
                stacklevel=2,
            )
    return stock()


@contextmanager
def raising() -> Iterator[None]:
    """Let kernels that fail say so, in here."""
    _raises.append(True)
    try:
        yield
    finally:
        _raises.pop()


def in_words(error: Exception) -> str:
    """The kind of an error and its first line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def failure() -> str | None:
    """Why kernels in Triton are no longer tried in this process."""
    return _failed[0] if _failed else None


def on_device_of(x: torch.Tensor) -> AbstractContextManager:
    """Triton starts kernels on the current device, which need not be the tensor's."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def ceil_div(dividend: int, divisor: int) -> int:
    """Quotient, rounded up."""
    return -(-dividend // divisor)


def power_of_two(least: int) -> int:
    """The smallest power of two that is not smaller."""
    return 1 << max(0, least - 1).bit_length()


@cache
def _can_compile() -> bool:
    """Whether there is a Triton that knows what the kernels are written in; one warning where a GPU would need it."""
    if find_spec("triton") is None:
        return False
    found = _version()
    if tuple(map(int, found.split(".")[:2])) >= OLDEST:
        return True
    if torch.cuda.is_available():
        oldest = ".".join(map(str, OLDEST))
        warnings.warn(
            f"Triton {found} is too old for the kernels of this package, so PyTorch's own are used, which is slower; "
            f"PyTorch 2.8 comes with Triton {oldest}, with which they work",
            stacklevel=2,
        )
    return False


def _version() -> str:
    try:
        return version("triton")
    except PackageNotFoundError:  # PyTorch has it under other names, too
        import triton

        return triton.__version__
