"""Where things lie on disk, and how they are written there. Environment variables are read here only, when used."""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adnext_plugin.errors import PathsError, SettingsError

CONFIGURATION = "3d_fullres"
PLANS_NAME = "ADNeXtPlans"
BRAIN_MASKS = "brain_masks"  # folder of a preprocessed dataset, with one inside for each method
SUBJECTS_FILE = "subjects.csv"
SPLITS_FILE = "splits_final.json"
PERMUTED_FOLDER = "permuted_"  # and a seed: folder of results of labels dealt out anew under it
SEED_FOLDER = "seed_"  # and a number: folder of results with what was trained again under that seed
METER_FOLDER = "inflation_meter"  # of a fold: predictions of its held-out part after every epoch
PARTIAL = ".partial-"  # how names of files and folders begin that are not complete yet


def raw_dir() -> Path:
    """Folder of raw datasets, from `nnUNet_raw`."""
    return _folder_from_environment("nnUNet_raw")


def preprocessed_dir() -> Path:
    """Folder of preprocessed datasets, from `nnUNet_preprocessed`."""
    return _folder_from_environment("nnUNet_preprocessed")


def results_dir() -> Path:
    """Folder of trained models, from `nnUNet_results`."""
    return _folder_from_environment("nnUNet_results")


def run_name(trainer: str, plans: str, configuration: str) -> str:
    """What nnU-Net calls the folder of a run, inside the dataset's folder of results."""
    return f"{trainer}__{plans}__{configuration}"


def hook_dir() -> Path:
    """The folder that nnU-Net finds our trainers in, to be listed in `nnUNet_extTrainer`."""
    return Path(__file__).parent / "nnunet_hook"


def settings_from_environment() -> dict:
    """Overrides of trainer settings that a command passes to trainers, from `ADNEXT_SETTINGS` (a JSON object)."""
    text = os.environ.get("ADNEXT_SETTINGS", "").strip() or "{}"
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f"ADNEXT_SETTINGS is not JSON ({error}): {text!r}") from error
    if not isinstance(settings, dict):
        raise SettingsError(f'ADNEXT_SETTINGS must be a JSON object such as {{"epochs": 3}}, got {text!r}')
    return settings


def worker_count(default: int) -> int:
    """Processes for data loading, from nnU-Net's `nnUNet_n_proc_DA` where it is set."""
    value = os.environ.get("nnUNet_n_proc_DA")
    if value is None:
        return default
    if not value.isdigit():
        raise SettingsError(f"nnUNet_n_proc_DA must be a whole number of processes, got {value!r}")
    return int(value)


def usable_cpus() -> int:
    """Processors that this process may use; a cluster's scheduler often grants fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_threads() -> int:
    """Threads for computing on the CPU: OpenMP's `OMP_NUM_THREADS` where it is set, else all usable processors.

    Processes whose threads are together more than the processors wait for one another most of the time: beside
    another process, on two processors, an epoch of DenseNet121 took 58 s with two threads and 10 s with one.
    """
    value = os.environ.get("OMP_NUM_THREADS", "")
    return int(value) if value.isdigit() and int(value) > 0 else usable_cpus()


def may_tune_allocator() -> bool:
    """False where the user has set `ADNEXT_MALLOPT` to 0."""
    return os.environ.get("ADNEXT_MALLOPT", "1") != "0"


@contextmanager
def environment_with(**variables: str) -> Iterator[None]:
    """Set environment variables for the duration of a block; processes started in it inherit them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def external_trainer_path() -> str:
    """nnU-Net's search path for trainers, `nnUNet_extTrainer`, with our folder in front."""
    listed = [path for path in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if path]
    return os.pathsep.join(dict.fromkeys([str(hook_dir()), *listed]))


def dataset_folder_name(dataset: str | int, parents: list[Path]) -> str:
    """Full name of a dataset given by its number or name.

    Args:
        dataset: `101`, `"101"` or `"Dataset101_AD"`.
        parents: folders to look in, e.g. `[raw_dir()]`.

    Raises:
        PathsError: nothing or more than one thing goes by that number.
    """
    names = {path.name for parent in parents for path in parent.glob("Dataset*") if path.is_dir()}
    where = " or ".join(str(parent) for parent in parents)
    if str(dataset).isdigit():
        matches = sorted(name for name in names if re.match(rf"Dataset0*{int(dataset)}_", name))
        if len(matches) > 1:
            raise PathsError(f"dataset number {dataset} is used twice in {where}: {', '.join(matches)}; rename one")
        if matches:
            return matches[0]
    elif dataset in names:
        return str(dataset)
    raise PathsError(f"no dataset {str(dataset)!r} in {where}; import one with adnext_import, or check the folder")


def file_of_fold(path: str, fold: int | str) -> Path:
    """A file of a fold, for which "{fold}" stands in its path; a path without it is the same for all."""
    return Path(path.replace("{fold}", str(fold)))


def require_file(path: Path, remedy: str) -> Path:
    """Return `path`, or say that it is missing and what makes it."""
    if not path.is_file():
        raise PathsError(f"{path} does not exist; {remedy}")
    return path


def read_json(path: Path) -> dict | list:
    """Read a JSON file; a damaged one is a `PathsError`."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise PathsError(f"{path} does not exist") from error
    except ValueError as error:
        raise PathsError(f"{path} is not valid JSON ({error}); restore it or make it again") from error


def write_json(content: dict | list, path: Path) -> None:
    """Write JSON so that a reader sees the old file or the whole new one."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


@contextmanager
def replacing(path: Path, beside: Path | None = None) -> Iterator[Path]:
    """Give a temporary path whose file replaces `path` when the block ends well, and vanishes when it does not.

    Args:
        path: the file to write; its folder is made.
        beside: folder for the temporary file, on the same file system; the file's own folder by default.

    Raises:
        PathsError: the disk is full.
    """
    folder = beside or path.parent
    with naming_what_fills_the_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=path.name, dir=folder)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp makes private files; give the result the permissions of an ordinary new file
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` when the block ends well, and vanishes when not.

    Raises:
        PathsError: the disk is full.
    """
    replaced = folder.with_name(f".replaced-{folder.name}")
    with naming_what_fills_the_disk(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{folder.name}-", dir=folder.parent))
        try:
            temporary.chmod(0o755)
            yield temporary
            if folder.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                folder.rename(replaced)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)


def remove_partial_files(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder that nobody else is writing to."""
    for path in [*folder.glob(f"{PARTIAL}*"), *folder.glob(f"*/{PARTIAL}*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def naming_what_fills_the_disk(path: Path) -> Iterator[None]:
    """Turn the system's error about a full disk into a `PathsError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path) from error
        raise


def disk_full(path: Path) -> PathsError:
    """The error that says which file no longer fitted on the disk."""
    return PathsError(f"no space left on the disk while writing {path}; free some and run the command again")


def _folder_from_environment(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise PathsError(
            f'the environment variable {variable} is not set; point it at a folder: export {variable}="$PWD/{variable}"'
        )
    return Path(value)
