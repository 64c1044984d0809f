"""What the environment says of this machine and command; variables are read only here and in `paths`, when used."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from adnext_plugin.errors import SettingsError
from adnext_plugin.paths import hook_dir


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


def trainer_search_path() -> str:
    """nnU-Net's search path for trainers, `nnUNet_extTrainer`, with our folder in front."""
    listed = [path for path in os.environ.get("nnUNet_extTrainer", "").split(os.pathsep) if path]
    return os.pathsep.join(dict.fromkeys([str(hook_dir()), *listed]))
