"""Memory that is too small: one line, and what was held is free; other errors are left alone."""

import gc
import weakref

import pytest
import torch

from adnext_plugin.errors import AdnextError
from adnext_plugin.memory_shortage import advising, memory_that_may_run_out


class _Large:
    """As tensors that a function holds when it fails."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"), "^the GPU's memory ran out; try less$"),
        (RuntimeError("CUDA error: out of memory"), "^the GPU's memory ran out; try less$"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "^memory ran out; try less$"),
        (MemoryError(), "^memory ran out; try less$"),
    ],
)
def test_want_of_memory_is_one_line_and_nothing_is_held(error: Exception, message: str) -> None:
    held = []

    def work() -> None:
        large = _Large()
        held.append(weakref.ref(large))
        raise error

    gc.disable()
    try:
        with pytest.raises(AdnextError, match=message), memory_that_may_run_out("try less"):
            work()
        assert held[0]() is None
    finally:
        gc.enable()


def test_a_real_want_of_memory_is_known() -> None:
    with pytest.raises(AdnextError, match="memory ran out; try less"), memory_that_may_run_out("try less"):
        torch.empty(1 << 60)


def test_whoever_knows_what_ran_says_what_to_do() -> None:
    with (
        pytest.raises(AdnextError, match=r"^memory ran out; cut it$"),
        memory_that_may_run_out("try less"),
        advising(lambda: "cut it"),
    ):
        torch.empty(1 << 60)
    with pytest.raises(ValueError, match="other"), advising(lambda: pytest.fail("nobody asked")):
        raise ValueError("other")


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("out of memory")])
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, memory_that_may_run_out("try less"):
        raise error
    assert caught.value is error
