"""A checkpoint of another project becomes one that `-pretrained_weights` takes, with its terms written into it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.errors import SettingsError, WeightsError
from adnext_plugin.files import refuse_existing
from adnext_plugin.workflows.common import Tell, say_nothing

if TYPE_CHECKING:
    from adnext_plugin.plan import NetworkSettings
    from adnext_plugin.training.foreign.source import Coverage

SUFFIXES = (".pth", ".safetensors")


@dataclass(frozen=True, kw_only=True)
class Request:
    """The file, whose weights it holds (a name of `adnext_list weight_sources`), and the checkpoint to write."""

    file: Path
    source: str
    output: Path
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.output.suffix not in SUFFIXES:
            raise SettingsError(f"-o {self.output}: the name ends in {' or '.join(SUFFIXES)}")


@dataclass(frozen=True, kw_only=True)
class Result:
    """The checkpoint, the network that it is of, what was taken over, and what it says of its origin."""

    checkpoint: Path
    network: "NetworkSettings"
    input_size_voxels: tuple[int, int, int]
    coverage: "Coverage"
    origin: dict[str, Any]


def import_weights(request: Request, tell: Tell = say_nothing) -> Result:
    """Read the file safely, name its tensors as ours, and write them.

    Raises:
        PathsError: there is no such file, or the output exists.
        UnknownNameError: there is no such source.
        WeightsError: the file is damaged, can only be read unsafely, or covers less than 95 % of an encoder.
    """
    refuse_existing(request.output, request.overwrite)

    from adnext_plugin.images import file_sha256
    from adnext_plugin.records import to_json
    from adnext_plugin.registry import WEIGHT_SOURCES, load
    from adnext_plugin.training.foreign.source import cover
    from adnext_plugin.training.weights import not_finite, read_safely

    source = load(WEIGHT_SOURCES, request.source)()
    content, _ = read_safely(request.file)
    if not isinstance(content, dict):
        raise WeightsError(f"{request.file} holds a {type(content).__name__}, no checkpoint")
    converted = source.convert(content, request.file)
    coverage = cover(converted, request.file)
    if (name := not_finite(coverage.tensors)) is not None:
        raise WeightsError(f"{request.file}: {name} holds weights that are not finite")
    origin = {
        "source": request.source,
        "title": source.title,
        "licence": source.licence,
        "prepared": source.prepared,
        "cite": source.cite,
        "file_sha256": file_sha256(request.file),
        "network": to_json(converted.network),
        "input_size_voxels": list(converted.input_size_voxels),
        "tensors": {"taken": len(coverage.taken), "missing": list(coverage.missing), "not_used": coverage.not_used},
    }
    _write(coverage, origin, request.output)
    tell(f"{source.title}: {coverage}")
    return Result(
        checkpoint=request.output,
        network=converted.network,
        input_size_voxels=converted.input_size_voxels,
        coverage=coverage,
        origin=origin,
    )


def _write(coverage: "Coverage", origin: dict[str, Any], path: Path) -> None:
    from adnext_plugin.training.checkpoints import write_checkpoint
    from adnext_plugin.training.plain_tensors import ORIGIN, SUFFIX, write_tensors

    if path.suffix == SUFFIX:
        write_tensors(coverage.tensors, path, {ORIGIN: origin})
    else:
        write_checkpoint({"network_weights": coverage.tensors, ORIGIN: origin}, path)
