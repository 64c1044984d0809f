"""Preprocessed cases on disk, as arrays ready for the network."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adnext_plugin.cpu_memory import available_memory_bytes, memory_bytes
from adnext_plugin.errors import AdnextWarning, PathsError, SettingsError
from adnext_plugin.stored_volumes import read_case, read_volume_of, volume_file

if TYPE_CHECKING:  # it takes seconds, and a program that reads prepared scans may do without
    import torch

ToInput = Callable[[np.ndarray], np.ndarray]

WITHOUT_HASHES = (
    "cases in {} were prepared by an earlier version, which noted no hashes of them, so that damage may go unnoticed; "
    "to have hashes, delete the folder and run adnext_plan_and_preprocess"
)


class CaseStore:
    """The volumes of some cases, kept in memory where they fit into half of what is left of it.

    Whatever is read is checked against the hash that was noted when the case was prepared.

    Args:
        folder: holds `{case}.b2nd`, arrays of (C, Z, Y, X), and `{case}.pkl`.
        cases: ids of the cases to serve; item k is the k-th of them.
        input_size_voxels: the (Z, Y, X) every volume must have.
        to_input: turns a stored image (C, Z, Y, X), float32, into one of that size; None where they are stored ready.
        is_own: they were prepared by `adnext_plan_and_preprocess`, not by nnU-Net's own preprocessing.
        channels: that every volume must have.

    Raises:
        PathsError: a case has no file; or, when it is read, is damaged.
        SettingsError: a stored volume has another size.
    """

    def __init__(
        self,
        folder: Path,
        cases: Sequence[str],
        input_size_voxels: tuple[int, int, int],
        to_input: ToInput | None = None,
        *,
        is_own: bool = True,
        channels: int = 1,
    ) -> None:
        self.cases = tuple(cases)
        self._folder = folder
        self._shape = (channels, *input_size_voxels)
        self._to_input = to_input
        self._is_own = is_own
        missing = [case for case in self.cases if not volume_file(folder, case).is_file()]
        if missing:
            raise PathsError(
                f"{len(missing)} of {len(self.cases)} cases are not in {folder}, the first is {missing[0]!r}; "
                "run adnext_plan_and_preprocess"
            )
        self._images: list[np.ndarray] | None = None
        self._resident: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.cases)

    def __getstate__(self) -> dict[str, Any]:
        """All but the volumes: a process that is given a copy reads them from disk, where they lie already."""
        return {**self.__dict__, "_images": None, "_resident": None}

    def __getitem__(self, index: int) -> np.ndarray:
        """The case's image, (C, Z, Y, X), float16; not to be written to."""
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

    def on_device(self, device: "torch.device") -> "torch.Tensor":
        """All volumes on a device, (N, C, Z, Y, X) float16; copied there once."""
        import torch

        if self._resident is None or self._resident.device != device:
            resident = torch.empty(len(self), *self._shape, dtype=torch.float16, device=device)
            for index in range(len(self)):
                resident[index] = torch.from_numpy(self[index])
            self._resident = resident
        return self._resident

    def _read(self, case: str) -> np.ndarray:
        path = volume_file(self._folder, case)
        if self._is_own:
            image_czyx, properties = read_case(self._folder, case)
            if properties.volume_sha256 is None:
                warnings.warn(WITHOUT_HASHES.format(self._folder), AdnextWarning, stacklevel=2)
        else:
            image_czyx = read_volume_of(path, None)
        if self._to_input is not None:
            image_czyx = self._to_input(image_czyx.astype(np.float32))
            if not np.isfinite(image_czyx).all():
                raise PathsError(f"{path} becomes an input with values that are not finite; leave the case out")
        if image_czyx.shape != self._shape:
            raise SettingsError(
                f"{path} has shape {image_czyx.shape}, but the plan says {self._shape}; "
                "run adnext_plan_and_preprocess with this plan"
            )
        return image_czyx.astype(np.float16, copy=False)
