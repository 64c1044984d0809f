"""What a prepared case depends on, as one hash: the bytes of scan and mask, and the steps that the scan went through.

Only steps that are switched on count, each with its version and settings. A step that somebody installs, or a setting
of one that is switched off, makes no case anew; nor do steps that are fitted later, on prepared images.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from adnext_plugin.errors import ImageError
from adnext_plugin.images import file_sha256
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.chain import steps_of
from adnext_plugin.records import to_json

# version 0.1.0 had one version for all steps and hashed every key of a plan, these
FIRST_VERSION = 3
FIRST_KEYS = frozenset(
    (
        "spacing_mm",
        "input_size_voxels",
        "fit",
        "interpolation",
        "clip_percentiles",
        "brain_extraction",
        "brain_mask_files",
        "hdbet_folds",
        "hdbet_mirroring",
        "bias_correction",
        "n4_shrink_factor",
        "n4_iterations",
        "alignment",
    )
)


def case_keys(
    image: Path, mask: Path | None, settings: PreprocessingSettings, further: Sequence[Path] = ()
) -> tuple[str, ...]:
    """The key of a case as it is written now; and then keys that earlier versions gave to the very same case.

    Args:
        image: the scan, the first one of several.
        mask: of its brain.
        settings: what is done to it.
        further: the others.

    Raises:
        ImageError: a scan does not exist.
        UnknownNameError, SettingsError: a further step cannot be had.
    """
    for path in (image, *further):
        if not path.is_file():
            raise ImageError(f"{path} does not exist; import the dataset again")
    files = (file_sha256(image), None if mask is None else file_sha256(mask))
    steps = steps_of(settings)
    others = tuple(file_sha256(path) for path in further)
    key = _hash((*files, tuple(planned.identity for planned in steps), *([others] if others else [])))
    if others or any(planned.step.version != 1 or not planned.is_own for planned in steps):
        return (key,)
    first = {name: value for name, value in to_json(settings).items() if name in FIRST_KEYS}
    return key, _hash((*files, repr(sorted(first.items())), FIRST_VERSION))


def _hash(parts: tuple) -> str:
    return sha256(repr(parts).encode()).hexdigest()
