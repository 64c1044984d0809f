"""One thread for everything in ITK: that of a registration's metric cannot be set, and repeated runs must agree."""

from collections.abc import Iterator
from contextlib import contextmanager

import SimpleITK as sitk  # noqa: N813  (the name everybody knows it by)


@contextmanager
def one_itk_thread() -> Iterator[None]:
    """Let each call of ITK work in one thread, so that sums come out the same again."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
