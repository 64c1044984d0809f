"""What the environment says of this machine and command; variables are read only here and in `paths`, when used."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from adnext_plugin.errors import SettingsError
from adnext_plugin.job_limits import ROOT, processor_limit
from adnext_plugin.names import names_in, whole_number
from adnext_plugin.paths import hook_dir

LaunchSetting = Literal["auto", "eager", "graphs", "compile"]
LOGGERS = "ADNEXT_LOGGERS"
FOLDS_AT_ONCE = "ADNEXT_FOLDS_AT_ONCE"  # told to processes that share a machine
HOW_THREADS_WAIT = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # of OpenMP, GNU's and LLVM's


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


def loggers_from_environment() -> tuple[str, ...]:
    """Loggers that a command passes to trainers, from `ADNEXT_LOGGERS` (names between commas)."""
    return names_in(os.environ.get(LOGGERS, ""))


def mlflow_place() -> str:
    """Where MLflow keeps runs, as its own variable says; "" where nobody says."""
    return os.environ.get("MLFLOW_TRACKING_URI", "")


def wandb_project() -> str:
    """The project of Weights & Biases, as its own variable says; "" where nobody says."""
    return os.environ.get("WANDB_PROJECT", "")


def worker_count(default: int) -> int:
    """Processes for data loading, from nnU-Net's `nnUNet_n_proc_DA` where it is set."""
    value = os.environ.get("nnUNet_n_proc_DA")
    if value is None:
        return default
    number = whole_number(value)
    if number is None:
        raise SettingsError(f"nnUNet_n_proc_DA must be a whole number of processes, got {value!r}")
    return number


def usable_cpus(root: Path = ROOT) -> int:
    """Processors that this process may use; a container or a batch system often grants fewer than the machine has.

    Args:
        root: folder that holds `proc` and `sys`.
    """
    # from Python 3.13 on, which also follows PYTHON_CPU_COUNT
    count = getattr(os, "process_cpu_count", _processors_of_process)() or 1
    granted = (_number("SLURM_CPUS_PER_TASK"), processor_limit(root))
    return min([count, *(limit for limit in granted if limit)])


def folds_at_once() -> int:
    """How many processes like this one train folds on this machine, and share its memory; 1 if nobody says so."""
    return max(1, _number(FOLDS_AT_ONCE) or 1)


def scheduled_memory_bytes() -> int | None:
    """Memory on this machine that Slurm has granted this job; None outside of one, or where it is not limited."""
    whole = _number("SLURM_MEM_PER_NODE")
    each, count = _number("SLURM_MEM_PER_CPU"), _number("SLURM_CPUS_ON_NODE")
    megabytes = whole or (each or 0) * (count or 0)
    return megabytes << 20 if megabytes else None


def cpu_threads() -> int:
    """Threads for computing on the CPU: OpenMP's `OMP_NUM_THREADS` where it is set, else all usable processors.

    Processes whose threads are together more than the processors wait for one another most of the time: beside
    another process, on two processors, an epoch of DenseNet121 took 58 s with two threads and 10 s with one.
    """
    return _number("OMP_NUM_THREADS") or usable_cpus()


def let_threads_sleep() -> bool:
    """Have threads that wait for one another sleep, not spin, unless the user has said how they are to wait.

    OpenMP's threads spin, so that all processors are busy and none of them with the thread that is waited for. Beside
    as many other busy processes as there are processors, a training step takes tens of times as long; with threads that
    sleep, its fair share. OpenMP reads the variable when torch is loaded; processes that are started inherit it.

    Returns:
        Whether it was done; it is too late once torch has been loaded.
    """
    if "torch" in sys.modules or any(name in os.environ for name in HOW_THREADS_WAIT):
        return False
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return True


def launch_setting() -> LaunchSetting:
    """How a GPU is to be given the kernels of a network, from `ADNEXT_LAUNCH`.

    Raises:
        SettingsError: there is no such way.
    """
    value = os.environ.get("ADNEXT_LAUNCH", "").strip() or "auto"
    for known in get_args(LaunchSetting):
        if value == known:
            return known
    raise SettingsError(f"ADNEXT_LAUNCH must be one of {', '.join(get_args(LaunchSetting))}, got {value!r}")


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


def _processors_of_process() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _number(variable: str) -> int | None:
    return whole_number(os.environ.get(variable, ""))
