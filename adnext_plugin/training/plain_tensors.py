"""Checkpoints as safetensors: tensors and, in the file's own header, what a checkpoint says of itself. No code."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from adnext_plugin.errors import WeightsError
from adnext_plugin.files import replacing
from adnext_plugin.paths import BLOCK

SUFFIX = ".safetensors"
ORIGIN = "adnext_weights"  # key of what is said of weights that another project has made
KNOWN = (BLOCK, ORIGIN)


def write_tensors(weights: Mapping[str, torch.Tensor], path: Path, said: Mapping[str, Any] | None = None) -> None:
    """Write weights and what a checkpoint says of them; the same content gives the same bytes.

    Args:
        weights: by name.
        path: file to write.
        said: JSON by key, such as `{"adnext": CheckpointNotes.block()}`.

    Raises:
        PathsError: the disk is full.
    """
    # each tensor by itself in memory, in plain order, as the format wants it
    alone = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
    metadata = {"format": "pt", **{key: json.dumps(value, sort_keys=True) for key, value in (said or {}).items()}}
    content = safetensors.torch.save(alone, metadata)
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read such a file as a checkpoint: `network_weights`, and what is said of them by key.

    Half-precision numbers come as float32, which networks are trained in.

    Raises:
        WeightsError: it is damaged, or something else.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            weights = {name: _full(file.get_tensor(name)) for name in list(file.keys())}
        said = {key: json.loads(metadata[key]) for key in KNOWN if key in metadata}
    except (OSError, SafetensorError, ValueError) as error:
        raise WeightsError(f"{path} is no file of safetensors, or is damaged ({error})") from error
    return {"network_weights": weights, **said}


def _full(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
