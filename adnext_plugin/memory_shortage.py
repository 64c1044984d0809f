"""Work that memory is too small for: it ends in one line, and what it held is free for what comes next."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from adnext_plugin.errors import AdnextError

OF_A_GPU = ("out of memory", "STATUS_ALLOC_FAILED")  # words of PyTorch and CUDA, and of CUDA's libraries
OF_THE_MACHINE = ("can't allocate memory", "not enough memory")  # PyTorch's, on Linux and on Windows
ADVICE = "adnext_advice"  # attribute of an error that was raised where somebody knows what to do

# where nobody knows better what is trained, see `advising`
FOR_TRAINING = "take a smaller batch_size, network or input, or end other programs that use it"
FOR_PREDICTION = "end other programs that use it, or let the processor compute (-device cpu)"


def shortage(error: BaseException) -> str | None:
    """What memory an error says to be too small; None where it says something else."""
    if isinstance(error, MemoryError):
        return "memory ran out"
    # a scripted network passes PyTorch's own kind of error on as a plain one
    if isinstance(error, RuntimeError) and any(words in str(error) for words in OF_A_GPU):
        return "the GPU's memory ran out"
    if isinstance(error, RuntimeError) and any(words in str(error) for words in OF_THE_MACHINE):
        return "memory ran out"
    return None


def shortage_in_words(error: BaseException, advice: str) -> str | None:
    """What memory an error says to be too small and what to do, in one line; None where it says something else.

    Args:
        error: of whatever kind.
        advice: what to do, unless it was raised where somebody knows better (`advising`).
    """
    what = shortage(error)
    return None if what is None else f"{what}; {getattr(error, ADVICE, advice)}"


@contextmanager
def advising(advice: Callable[[], str]) -> Iterator[None]:
    """Have errors of memory from within know what to do about them, for whoever says them in one line.

    Args:
        advice: is asked when there is one.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if shortage(error) is not None:
            setattr(error, ADVICE, advice())
        raise


def free_gpu_memory() -> None:
    """Give back what PyTorch keeps of a GPU's memory for later, where this process has used one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@contextmanager
def memory_that_may_run_out(advice: str) -> Iterator[None]:
    """Say in one line that memory was too small for what is done within, and free it.

    Args:
        advice: as of `shortage_in_words`.

    Raises:
        AdnextError: that line.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if (line := shortage_in_words(error, advice)) is None:
            raise
        # an error holds all that its functions held
        traceback.clear_frames(error.__traceback__)
        free_gpu_memory()
        raise AdnextError(line) from error
