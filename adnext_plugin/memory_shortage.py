"""Work that memory is too small for: it ends in one line, and what it held is free for what comes next."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from adnext_plugin.errors import AdnextError

OF_A_GPU = ("out of memory", "STATUS_ALLOC_FAILED")  # words of PyTorch and CUDA, and of CUDA's libraries
OF_THE_MACHINE = ("can't allocate memory", "not enough memory")  # PyTorch's, on Linux and on Windows

FOR_TRAINING = (
    "--set accumulate=2 computes a batch in two parts, --set recompute=true holds less of a network that can; or take "
    "a smaller batch_size, or end other programs that use it"
)
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


@contextmanager
def memory_that_may_run_out(advice: str) -> Iterator[None]:
    """Say in one line that memory was too small for what is done within, and free it.

    Args:
        advice: what to do then.

    Raises:
        AdnextError: that line.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if (what := shortage(error)) is None:
            raise
        # an error holds all that its functions held
        traceback.clear_frames(error.__traceback__)
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        raise AdnextError(f"{what}; {advice}") from error
