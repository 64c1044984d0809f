"""Model bundles: a trained ensemble as one file to share, of tensors (safetensors) and JSON alone.

    manifest.json               format and its version; length and SHA-256 of every other file
    model.json                  the `ModelDescription`
    fold_0.safetensors, ...     weights of each network
    features_0.safetensors, ... mean and covariance of its training cases' features, where they were measured
    steps_0.safetensors, ...    what fitted preprocessing steps have learned from its training cases, if there are any

Nothing in it can run code, and nothing in it is of any one person. The hashes show damage; only where a bundle comes
from says whether to trust it.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from safetensors import SafetensorError

from adnext_plugin.errors import AdnextError, BundleError, PathsError, SettingsError
from adnext_plugin.files import read_json, refuse_existing, replacing, replacing_folder, write_json
from adnext_plugin.images import file_sha256
from adnext_plugin.networks.weight_names import without_wrappers
from adnext_plugin.partial_files import partial_folder
from adnext_plugin.prediction.archive import NAMES, pack, unpack
from adnext_plugin.prediction.description import ModelDescription
from adnext_plugin.prediction.features import FeatureProfile
from adnext_plugin.prediction.limits import require_finite, require_modest, require_own_weights
from adnext_plugin.prediction.model import FoldModel, FoldNetwork, Model
from adnext_plugin.records import from_json, record, to_json
from adnext_plugin.stamps import without_reasons

FORMAT = "adnext_model_bundle"
FORMAT_VERSION = 1
MANIFEST, DESCRIPTION = "manifest.json", "model.json"


@record
class FileNote:
    """Length and SHA-256 of a file."""

    bytes: int
    sha256: str


def write_bundle(model: Model, path: Path) -> None:
    """Write a model as one archive; the same model gives the same bytes.

    Raises:
        BundleError: a weight is not finite.
    """
    for description, fold in zip(model.description.folds, model.folds, strict=True):
        require_finite(fold, f"fold {description.name} of {model.description.trainer}")
    with replacing(path) as archive, partial_folder(path.parent) as folder:
        shared = replace(model.description, stamps=without_reasons(model.description.stamps))
        write_json(to_json(shared), folder / DESCRIPTION)
        for description, fold in zip(model.description.folds, model.folds, strict=True):
            # safetensors wants each tensor by itself in memory, in plain order
            weights = {key: tensor.detach().cpu().clone().contiguous() for key, tensor in fold.weights.items()}
            # not by `save_file`, which hides why it fails, as on a full disk
            content = safetensors.torch.save(weights)
            (folder / f"fold_{description.name}.safetensors").write_bytes(content)
            if fold.features is not None:
                content = safetensors.numpy.save(fold.features.arrays())
                (folder / f"features_{description.name}.safetensors").write_bytes(content)
            if fold.learned:
                content = safetensors.numpy.save(dict(fold.learned))
                (folder / f"steps_{description.name}.safetensors").write_bytes(content)
        files = {
            file.name: to_json(FileNote(bytes=file.stat().st_size, sha256=file_sha256(file)))
            for file in sorted(folder.iterdir())
        }
        write_json({"format": FORMAT, "format_version": FORMAT_VERSION, "files": files}, folder / MANIFEST)
        pack(folder, archive)


def install_bundle(path: Path, folder: Path, *, overwrite: bool) -> Model:
    """Check a bundle from anywhere and put its files into a folder of their own.

    Args:
        path: the archive.
        folder: to be made; on an error it is left as it was.
        overwrite: replace a model that is there.

    Raises:
        PathsError: the folder exists.
        BundleError: the archive is refused, with the reason.
    """
    refuse_existing(folder, overwrite, "choose another place with --name or --into")
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise PathsError(f"{folder} exists and is no installed bundle, so --overwrite will not replace it")
    with replacing_folder(folder) as temporary:
        return _unpack_and_check(path, temporary)


def read_bundle_file(path: Path) -> Model:
    """Read a bundle from anywhere without installing it, checked as if it were installed.

    Raises:
        BundleError: the archive is refused, with the reason.
    """
    with tempfile.TemporaryDirectory(prefix="adnext_") as name:
        return _unpack_and_check(path, Path(name))


def _unpack_and_check(path: Path, folder: Path) -> Model:
    """Unpack an archive into an empty folder, read it, and build its networks once."""
    unpack(path, folder)
    try:
        model = read_bundle(folder)
        require_own_weights(model, str(folder / DESCRIPTION))
        for index in range(len(model.folds)):
            FoldNetwork(model, index, "cpu")
    except AdnextError as error:
        # the temporary folder means nothing to anybody
        raise BundleError(str(error).replace(str(folder), str(path))) from error
    except (TypeError, ValueError, RuntimeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BundleError(f"{path} is refused: no network can be built of its plan ({reason})") from error
    return model


def read_bundle(folder: Path) -> Model:
    """Read an installed bundle, checking every file against the manifest.

    Raises:
        BundleError: a file is missing, too many, damaged or not what it must be; or the description is.
    """
    _check_files(folder)
    where = str(folder / DESCRIPTION)
    try:
        description = from_json(ModelDescription, _object(folder / DESCRIPTION), where)
    except SettingsError as error:
        raise BundleError(str(error) if where in str(error) else f"{where}: {error}") from error
    files = [name for name in description.plan.network.options if name.endswith("_weights")]
    if files:
        raise BundleError(f"{where} is refused: it names a file of this machine to begin from, which no bundle needs")
    require_modest(description, where)
    return Model(description=description, folds=tuple(_read_fold(folder, fold.name) for fold in description.folds))


def is_bundle(folder: Path) -> bool:
    """Whether a folder looks like an installed bundle."""
    return (folder / MANIFEST).is_file()


def _check_files(folder: Path) -> None:
    manifest = _object(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise BundleError(f"{folder / MANIFEST} is not of a model bundle: its format is {manifest.get('format')!r}")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{folder / MANIFEST}: the bundle is of format {version!r}, and this version of adnext_plugin reads format "
            f"{FORMAT_VERSION}; install the version that wrote it"
        )
    notes = manifest.get("files")
    if not isinstance(notes, dict) or DESCRIPTION not in notes:
        raise BundleError(f"{folder / MANIFEST} does not list the bundle's files; fetch the bundle again")
    there = {path.name for path in folder.iterdir()} - {MANIFEST}
    odd = sorted(there ^ set(notes))
    if odd:
        raise BundleError(f"{folder / odd[0]} is not both in the bundle and in its manifest; fetch the bundle again")
    for name, content in notes.items():
        file = folder / name
        if not NAMES.fullmatch(name) or file.is_symlink() or not file.is_file():
            raise BundleError(f"{file} is no file of a bundle")
        note = from_json(FileNote, content if isinstance(content, dict) else {}, f"{folder / MANIFEST}, {name}")
        if file.stat().st_size != note.bytes or file_sha256(file) != note.sha256:
            raise BundleError(f"{file} is not what was exported: its SHA-256 is another; fetch the bundle again")


def _object(path: Path) -> dict:
    try:
        content = read_json(path)
    except PathsError as error:
        raise BundleError(f"{error}; fetch the bundle again") from error
    except RecursionError as error:
        raise BundleError(f"{path} is refused: it is nested too deeply") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} is not a JSON object; fetch the bundle again")
    return content


def _read_fold(folder: Path, name: str) -> FoldModel:
    weights, features, steps = (folder / f"{kind}_{name}.safetensors" for kind in ("fold", "features", "steps"))
    try:
        tensors: dict[str, torch.Tensor] = safetensors.torch.load_file(weights)
        profile = None
        if features.is_file():
            profile = FeatureProfile.from_arrays(safetensors.numpy.load_file(features), str(features))
        learned: dict[str, np.ndarray] = safetensors.numpy.load_file(steps) if steps.is_file() else {}
    except (OSError, SafetensorError, ValueError) as error:
        raise BundleError(f"{weights} and its features cannot be read ({error}); fetch the bundle again") from error
    return FoldModel(weights=without_wrappers(tensors), features=profile, learned=learned)
