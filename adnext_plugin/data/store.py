"""Preprocessed cases on disk, as arrays ready for the network."""

from collections.abc import Callable, Sequence
from pathlib import Path

import blosc2
import numpy as np

from adnext_plugin.cpu_memory import available_memory_bytes, memory_bytes
from adnext_plugin.errors import PathsError, SettingsError

ToInput = Callable[[np.ndarray], np.ndarray]


class CaseStore:
    """The volumes of some cases, kept in memory where they fit into half of what is left of it.

    Args:
        folder: holds `{case}.b2nd`, arrays of (1, Z, Y, X).
        cases: ids of the cases to serve; item k is the k-th of them.
        input_size_voxels: the (Z, Y, X) every volume must have.
        to_input: turns a stored image (C, Z, Y, X), float32, into one of that size; None where they are stored ready.

    Raises:
        PathsError: a case has no file.
        SettingsError: a stored volume has another size.
    """

    def __init__(
        self,
        folder: Path,
        cases: Sequence[str],
        input_size_voxels: tuple[int, int, int],
        to_input: ToInput | None = None,
    ) -> None:
        self.cases = tuple(cases)
        self._folder = folder
        self._shape = (1, *input_size_voxels)
        self._to_input = to_input
        missing = [case for case in self.cases if not self._path(case).is_file()]
        if missing:
            raise PathsError(
                f"{len(missing)} of {len(self.cases)} cases are not in {folder}, the first is {missing[0]!r}; "
                "run adnext_plan_and_preprocess"
            )
        self._images: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> np.ndarray:
        """The case's image, (1, Z, Y, X), float16; not to be written to."""
        return self._images[index] if self._images is not None else self._read(self.cases[index])

    def keep_in_memory(self, processes: int = 1) -> bool:
        """Read all cases once, so that worker processes forked later share them.

        Args:
            processes: of training, each of which keeps as much.

        Returns:
            False if they would take more than half of the memory that this job has left; then every access reads the
            disk.
        """
        if self._images is not None:
            return True
        needed_bytes = 2 * len(self.cases) * int(np.prod(self._shape)) * processes
        available = available_memory_bytes()
        if available is None:  # not Linux
            available = memory_bytes()
        if available is not None and needed_bytes > available / 2:
            return False
        self._images = [self._read(case) for case in self.cases]
        return True

    def _path(self, case: str) -> Path:
        return self._folder / f"{case}.b2nd"

    def _read(self, case: str) -> np.ndarray:
        try:
            image_czyx = blosc2.open(str(self._path(case)), mode="r", dparams={"nthreads": 1})[:]
        except (RuntimeError, ValueError) as error:
            raise PathsError(
                f"{self._path(case)} is damaged ({error}); delete it and run adnext_plan_and_preprocess again"
            ) from error
        if self._to_input is not None:
            image_czyx = self._to_input(image_czyx.astype(np.float32))
        if image_czyx.shape != self._shape:
            raise SettingsError(
                f"{self._path(case)} has shape {image_czyx.shape}, but the plan says {self._shape}; "
                "run adnext_plan_and_preprocess with this plan"
            )
        return image_czyx.astype(np.float16, copy=False)
