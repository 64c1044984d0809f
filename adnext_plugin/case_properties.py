"""What preprocessing notes of a case in its .pkl, and the one reader of such files.

They are pickles because nnU-Net wants them so. A pickle may hold instructions to run anything; this reader follows
none, since ours hold numbers, texts and lists alone. A hash of all else in it shows whether a bit has changed since.
"""

import io
import pickle
from collections.abc import Mapping
from dataclasses import field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from adnext_plugin.errors import AdnextError, PathsError
from adnext_plugin.formats import VERSION, Format
from adnext_plugin.records import from_json, record

LARGEST_BYTES = 1 << 20  # ours take one or two thousand
CHECKSUM = "checksum"  # key

Rows = tuple[tuple[float, float, float, float], ...]

PROPERTIES = Format(
    name="adnext_case",
    version=2,  # 1 had no hashes
    known_by="brain_litres",
    words="what adnext_plan_and_preprocess notes of a case",
    remedy="run adnext_plan_and_preprocess",
)


@record
class CaseProperties:
    """What was done to a scan. Axis order z, y, x after reorientation to RAS, but for affines, which are of x, y, z."""

    fit: str
    brain_litres: float
    ras_shape_voxels: tuple[int, int, int]
    ras_affine: Rows
    spacing_mm: tuple[float, float, float]
    foreground_box: tuple[tuple[int, int], ...]  # first voxel and the one after the last, of each axis
    resampled_shape_voxels: tuple[int, ...]
    share_of_foreground_cut_off: float
    key: str  # of the scan's bytes and the settings: a case is finished if it is the one now wanted
    mask: str | None = None  # file of the brain, where it had to be found
    scan_from_mni_mm: Rows | None = None  # of an alignment
    # from voxel indices of the network's input to millimetres of the scan; 0.1.0 did not note it
    input_affine: Rows | None = None
    notes: dict[str, Any] = field(default_factory=dict)  # of further steps, as they give them
    volume_sha256: str | None = None  # of the file with the prepared volume; earlier versions did not note it


def write_case_properties(properties: CaseProperties, path: Path) -> None:
    """Write a case's .pkl; the file must be put into its place by the caller."""
    content = {one.name: getattr(properties, one.name) for one in fields(properties)}
    for name in ("scan_from_mni_mm", "input_affine", "notes"):
        if not content[name]:
            del content[name]
    stamped = PROPERTIES.stamped(content)
    path.write_bytes(pickle.dumps({**stamped, CHECKSUM: _checksum(stamped)}))


def read_case_properties(path: Path) -> CaseProperties:
    """Read a case's .pkl without running anything that it says.

    Raises:
        PathsError: there is none, or it is damaged, holds more than plain data, or is not what this version writes.
    """
    try:
        return from_json(CaseProperties, PROPERTIES.content_of(_undamaged(path), str(path)), str(path))
    except FileNotFoundError as error:
        raise PathsError(f"{path} does not exist; {PROPERTIES.remedy}") from error
    except OSError as error:
        raise PathsError(f"{path} cannot be read ({error}); {PROPERTIES.remedy}") from error
    except AdnextError as error:
        told = str(error) if PROPERTIES.remedy in str(error) else f"{error}; {PROPERTIES.remedy}"
        raise PathsError(told) from error


def _undamaged(path: Path) -> object:
    stored = _plain(path)
    if not isinstance(stored, dict) or CHECKSUM not in stored:
        if isinstance(stored, dict) and stored.get(VERSION) == PROPERTIES.version:
            raise PathsError(f"{path} is damaged: its checksum is missing")
        return stored
    content = {key: value for key, value in stored.items() if key != CHECKSUM}
    if stored[CHECKSUM] != _checksum(content):
        raise PathsError(f"{path} is damaged: it is not what was written (its checksum is another)")
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    """Of all that is stored beside it; a pickle gives back numbers, texts and lists as they were."""
    return sha256(repr(sorted(content.items())).encode()).hexdigest()


def _plain(path: Path) -> object:
    if path.stat().st_size > LARGEST_BYTES:
        raise PathsError(f"{path} is too large to be {PROPERTIES.words}")
    if not path.is_file():  # a pipe would never end
        raise PathsError(f"{path} is not a file")
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except OSError:
        raise
    except Exception as error:  # bytes that are no pickle may raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PathsError(f"{path} is damaged, or more than plain data ({reason})") from error


class _PlainUnpickler(pickle.Unpickler):
    """Builds numbers, texts, lists and the like; whatever needs a class or a function is refused."""

    def find_class(self, module_name: str, global_name: str) -> type:
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")
