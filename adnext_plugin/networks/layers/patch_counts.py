"""How many patches each sample of a batch has, where the first axis of tokens counts patches."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch


@dataclass(frozen=True, kw_only=True)
class PatchCounts:
    """Patches of each sample; what a GPU needs to know of them is sent once, so that no layer waits for it."""

    per_sample: tuple[int, ...]
    offsets: torch.Tensor  # first patch of each sample, and at the end their number; (samples + 1,), int32
    sample_of_patch: torch.Tensor  # (patches,), int64

    @classmethod
    def of(cls, per_sample: Sequence[int], device: torch.device) -> "PatchCounts":
        """From numbers that are known on the CPU."""
        offsets = torch.tensor([0, *accumulate(per_sample)], dtype=torch.int32)
        owners = torch.repeat_interleave(torch.arange(len(per_sample)), torch.tensor(per_sample))
        return cls(
            per_sample=tuple(per_sample),
            offsets=offsets.to(device, non_blocking=True),
            sample_of_patch=owners.to(device, non_blocking=True),
        )

    @classmethod
    def equal(cls, samples: int, each: int, device: torch.device) -> "PatchCounts":
        """The same number of each sample; made on the device."""
        return cls(
            per_sample=(each,) * samples,
            offsets=torch.arange(samples + 1, dtype=torch.int32, device=device) * each,
            sample_of_patch=torch.arange(samples * each, device=device) // each,
        )
