"""Starting from weights of an earlier run, with every tensor accounted for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adnext_plugin.errors import AdnextError, WeightsError
from adnext_plugin.files import require_file
from adnext_plugin.networks.weight_names import without_wrappers
from adnext_plugin.paths import BLOCK
from adnext_plugin.training.checkpoints import require_sound_archive, require_undamaged
from adnext_plugin.training.plain_tensors import SUFFIX, read_tensors
from adnext_plugin.training.released import from_released, is_released


@dataclass(frozen=True, kw_only=True)
class WeightsReport:
    """Names of tensors: taken over, in the network only (they keep their initial values), in the file only."""

    matched: tuple[str, ...]
    new: tuple[str, ...]
    dropped: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.matched)} tensors matched, {len(self.new)} new ({_shorten(self.new)}), "
            f"{len(self.dropped)} dropped ({_shorten(self.dropped)})"
        )


def read_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict:
    """Read a checkpoint of ours, as .pth or .safetensors, or of the AD-NeXt authors, without running code from it.

    Tensors have the network's own names, also if it was compiled or on several GPUs when they were saved.

    Raises:
        PathsError: no such file.
        WeightsError: not a checkpoint, damaged, one that only unsafe loading could read, or one with weights that are
            no numbers.
    """
    checkpoint, is_sealed = read_safely(path, device)
    if isinstance(checkpoint, dict) and is_released(checkpoint):
        checkpoint = {"network_weights": from_released(without_wrappers(checkpoint["net"]))}
    if not isinstance(checkpoint, dict) or "network_weights" not in checkpoint:
        raise WeightsError(f"{path} holds no 'network_weights'; give a checkpoint_*.pth of a trainer")
    if BLOCK in checkpoint and not is_sealed:
        require_sound_archive(path)  # of an earlier version of ours
    return _checked(checkpoint, path)


def read_safely(path: Path, device: torch.device | str = "cpu") -> tuple[Any, bool]:
    """What a file of torch or safetensors holds, whoever wrote it, without running code from it; and whether it is ours
    and as it was written.

    Raises:
        PathsError: no such file.
        WeightsError: it is damaged, or only unsafe loading could read it.
    """
    require_file(path, "check the path, or train first")
    if path.suffix == SUFFIX:
        return read_tensors(path, device), True
    try:
        is_sealed = require_undamaged(path)
        return torch.load(path, map_location=device, weights_only=True), is_sealed
    except AdnextError:
        raise
    except Exception as error:  # torch's reader raises almost anything on bytes that are none of its own
        reason = (str(error) or type(error).__name__).split(". ")[0].splitlines()[0]
        raise WeightsError(f"{path} is not a checkpoint that can be read safely ({reason})") from error


def _checked(checkpoint: dict, path: Path) -> dict:
    if (name := not_finite(checkpoint["network_weights"])) is not None:
        raise WeightsError(f"{path}: {name} holds weights that are not finite; train again with a lower learning rate")
    return with_plain_names(checkpoint)


def with_plain_names(checkpoint: dict) -> dict:
    """The checkpoint with the network's own names of tensors, also if it was compiled or on several GPUs when saved."""
    weights = checkpoint["network_weights"]
    if not isinstance(weights, Mapping):
        return checkpoint
    return {**checkpoint, "network_weights": without_wrappers(weights)}


def not_finite(weights: object) -> str | None:
    """The name of the first tensor that holds a NaN or infinity, if there is one."""
    named = weights.items() if isinstance(weights, Mapping) else ()
    return next((name for name, tensor in named if _is_not_finite(tensor)), None)


def load_encoder(network: nn.Module, path: Path) -> WeightsReport:
    """Take over the encoder of a checkpoint; the head starts afresh.

    Args:
        network: has `key_to_encoder`, the name of its encoder. With `key_to_decoder`, that of its decoder, the file's
            is taken over, too, if all of it is there, save for what is named `seg_layers`.
        path: checkpoint of a classifier, a segmenter or a pre-training run with the same encoder.

    Raises:
        WeightsError: a tensor of the encoder is missing or has another shape.
    """
    saved = read_checkpoint(path)["network_weights"]
    # of a network with covariates
    saved = {name.removeprefix("network."): tensor for name, tensor in saved.items()}
    own = network.state_dict()
    wanted = [name for name in own if name.startswith(f"{network.key_to_encoder}.")]
    missing = [name for name in wanted if name not in saved or saved[name].shape != own[name].shape]
    if missing:
        first = missing[0]
        found = f"has shape {tuple(saved[first].shape)} there" if first in saved else "is not there"
        raise WeightsError(
            f"{path} covers {len(wanted) - len(missing)} of {len(wanted)} encoder tensors; {first} "
            f"{tuple(own[first].shape)} {found}: use weights of the same network, size, kernel and stem"
        )
    wanted += _decoder(network, own, saved)
    network.load_state_dict({**own, **{name: saved[name] for name in wanted}})
    return WeightsReport(
        matched=tuple(wanted),
        new=tuple(name for name in own if name not in wanted),
        dropped=tuple(name for name in saved if name not in wanted),
    )


def _decoder(network: nn.Module, own: Mapping[str, torch.Tensor], saved: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of what is handed on of a decoder, if a file has all of it."""
    key = getattr(network, "key_to_decoder", None)
    names = [name for name in own if key and name.startswith(f"{key}.") and ".seg_layers." not in name]
    return names if all(name in saved and saved[name].shape == own[name].shape for name in names) else []


def _is_not_finite(tensor: object) -> bool:
    if not isinstance(tensor, torch.Tensor) or not (tensor.is_floating_point() or tensor.is_complex()):
        return False
    return not bool(torch.isfinite(tensor).all())


def _shorten(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"
