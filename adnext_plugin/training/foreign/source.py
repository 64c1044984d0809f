"""Weights of another project as a checkpoint of ours: the protocol of the entry-point group `adnext.weight_sources`.

A source says whose weights it reads, on what terms, which scans they expect, and how their tensors are called here.
What is read is never run: torch's safe reader, or safetensors. Weights are written from facts about such files; none
come with the package.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch

from adnext_plugin.errors import WeightsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.weight_names import without_wrappers
from adnext_plugin.plan import NetworkSettings

LEAST_COVERAGE = 0.95  # of the encoder's tensors
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Tensors under our names: of which network, and the size (Z, Y, X) that it is built for.

    `not_used`: how many tensors of the file were left out.
    """

    network: NetworkSettings
    input_size_voxels: tuple[int, int, int]
    tensors: Tensors
    not_used: int


class ForeignWeights(ABC):
    """Whose weights, on what terms, for which scans. Registered by name."""

    title: ClassVar[str]  # one line, for lists
    licence: ClassVar[str]
    prepared: ClassVar[str]  # how scans must look, as far as is known
    cite: ClassVar[str]

    @abstractmethod
    def convert(self, checkpoint: Mapping[str, Any], where: Path) -> Converted:
        """Name the encoder's tensors as ours, and turn them to our order of axes.

        Args:
            checkpoint: as it was read.
            where: its file, for messages.

        Raises:
            WeightsError: it is of something else, or of a network that there is none of here.
        """


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How far a file goes.

    `tensors` are all of our encoder. Of those named in `taken` the values are the file's, of those in `missing` initial
    ones. `not_used` tensors of the file belong to something else: a head, a decoder, a projector.
    """

    tensors: Tensors
    taken: tuple[str, ...]
    missing: tuple[str, ...]
    not_used: int

    def __str__(self) -> str:
        missing = f" ({', '.join(self.missing[:3])})" if self.missing else ""
        return f"{len(self.taken)} tensors taken, {len(self.missing)} missing{missing}, {self.not_used} not used"


def cover(converted: Converted, where: Path) -> Coverage:
    """Hold converted tensors against the network they are for, and complete them.

    Args:
        converted: under our names.
        where: the file, for messages.

    Raises:
        WeightsError: less than 95 % of the encoder's tensors are there in its shape.
    """
    with torch.device("meta"):
        own = _encoder(converted)
    found = converted.tensors
    taken = tuple(name for name in own if name in found and found[name].shape == own[name].shape)
    missing = tuple(name for name in own if name not in taken)
    if len(taken) < LEAST_COVERAGE * len(own):
        first = missing[0]
        shape = f"has the shape {tuple(found[first].shape)} there" if first in found else "is not there"
        raise WeightsError(
            f"{where} covers {len(taken)} of {len(own)} tensors of the encoder of {converted.network.name}, less than "
            f"{LEAST_COVERAGE:.0%}: {first} {tuple(own[first].shape)} {shape}; is it the right file, and --from?"
        )
    if missing:
        torch.manual_seed(0)
        own = _encoder(converted)
    return Coverage(
        tensors={name: found[name] if name in taken else own[name] for name in own},
        taken=taken,
        missing=missing,
        not_used=converted.not_used + sum(name not in own for name in found),
    )


def _encoder(converted: Converted) -> Tensors:
    network = build_network(converted.network, 1, 2, converted.input_size_voxels)
    return {name: tensor for name, tensor in network.state_dict().items() if name.startswith("encoder.")}


def state_dict_in(checkpoint: Mapping[str, Any], where: Path, *keys: str) -> Tensors:
    """The tensors of a checkpoint, under their bare names.

    Args:
        checkpoint: as read: tensors, or an object that has them under one of `keys`.
        where: its file, for messages.
        keys: looked for in this order.

    Raises:
        WeightsError: there are none.
    """
    content: Any = next((checkpoint[key] for key in keys if isinstance(checkpoint.get(key), Mapping)), checkpoint)
    tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
    if not tensors:
        raise WeightsError(f"{where} holds no tensors under {', '.join(keys)}; is it the right file, and --from?")
    return without_wrappers(tensors)


def renamed(tensors: Mapping[str, torch.Tensor], rules: Iterable[tuple[str, str]]) -> Tensors:
    """Tensors whose name matches a rule, under their new name; others are left out.

    Args:
        tensors: by name.
        rules: regular expressions of whole names, and replacements.
    """
    found = {}
    for name, tensor in tensors.items():
        for pattern, replacement in rules:
            if match := re.fullmatch(pattern, name):
                found[match.expand(replacement)] = tensor
                break
    return found


def reversed_axes(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Filters of networks whose volumes are (x, y, z), for ours, which are (z, y, x)."""
    return {
        name: tensor.permute(0, 1, 4, 3, 2).contiguous() if tensor.ndim == 5 else tensor
        for name, tensor in tensors.items()
    }


def twice(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Tensors of blocks of nnU-Net's library, which registers convolution and norm a second time."""
    doubled = dict(tensors)
    for name, tensor in tensors.items():
        for part, place in ((".conv.", 0), (".norm.", 1)):
            head, found, leaf = name.rpartition(part)
            if found:
                doubled[f"{head}.all_modules.{place}.{leaf}"] = tensor
    return doubled
