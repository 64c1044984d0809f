"""Commands that users have, run in this process: starting Python and importing torch takes longer than a short run."""

import gc
import multiprocessing
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from adnext_plugin.paths import hook_dir

STUDY_TRAINERS = Path(__file__).parent / "study_trainers"


def use_folders(work: Path, processes: int) -> None:
    """Tell nnU-Net, before it is imported, where its folders are and how many processes it may have."""
    for name in ("raw", "preprocessed", "results"):
        (work / name).mkdir(parents=True, exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(work / name)
    os.environ["nnUNet_extTrainer"] = os.pathsep.join([str(hook_dir()), str(STUDY_TRAINERS)])
    os.environ.setdefault("nnUNet_def_n_proc", str(processes))
    os.environ.setdefault("nnUNet_compile", "f")


def run(command: str, *words: str) -> None:
    """Run a command of the environment as if it had been typed; where that fails here, in a process of its own.

    Raises:
        RuntimeError: it ended with another code than 0 there, too.
    """
    print("$", command, *words, flush=True)
    function = next(iter(entry_points(group="console_scripts", name=command))).load()
    before, sys.argv = sys.argv, [command, *words]
    try:
        with _forking(), _torch_as_it_was():
            code = function()
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        code = error.code if isinstance(error, SystemExit) else 1
    finally:
        sys.argv = before
    if code:
        print(f"ended with {code!r}; once more in a process of its own", flush=True)
        run_apart(command, *words)


def run_apart(command: str, *words: str) -> None:
    """Run a command in a process of its own.

    Raises:
        RuntimeError: it ended with another code than 0.
    """
    program = shutil.which(command) or str(Path(sys.executable).with_name(command))
    done = subprocess.run([program, *words], check=False)
    if done.returncode:
        raise RuntimeError(f"{command} {' '.join(words)} ended with {done.returncode}")


def beside(log: Path, function: Callable[..., None], *arguments: Any) -> multiprocessing.Process:
    """Begin a function in a process of its own, which prints into a file."""
    process = multiprocessing.get_context("fork").Process(target=_printing_into, args=(log, function, *arguments))
    process.start()
    return process  # type: ignore[return-value]


def wait_for(*processes: multiprocessing.Process) -> None:
    """Wait until they have ended.

    Raises:
        RuntimeError: one of them failed.
    """
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a process failed; its log says why")


def _printing_into(log: Path, function: Callable[..., None], *arguments: Any) -> None:
    stream = log.open("ab")
    for number in (1, 2):
        os.dup2(stream.fileno(), number)
    try:
        function(*arguments)
    except (Exception, SystemExit):
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


@contextmanager
def _forking() -> Iterator[None]:
    """Processes that nnU-Net would start afresh begin with what is imported here."""
    import torch.multiprocessing

    modules = (multiprocessing, torch.multiprocessing)
    original = multiprocessing.get_context
    for module in modules:
        module.get_context = lambda method=None: original("fork" if method == "spawn" else method)  # type: ignore
    try:
        yield
    finally:
        for module in modules:
            module.get_context = original  # type: ignore


@contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """What a run sets for its whole process, such as how convolutions are computed, ends with it."""
    import torch
    from nnunetv2.training.logging.nnunet_logger import LocalLogger

    backends = [(torch.backends.cudnn, name) for name in ("benchmark", "deterministic", "allow_tf32")]
    backends.append((torch.backends.cuda.matmul, "allow_tf32"))
    before = [getattr(backend, name) for backend, name in backends]
    threads, draw, tell = torch.get_num_threads(), LocalLogger.plot_progress_png, torch.set_num_interop_threads
    LocalLogger.plot_progress_png = lambda *_: None  # drawing takes longer than an epoch
    torch.set_num_interop_threads = lambda _: None  # may be called once in a process, and nnU-Net calls it each time
    try:
        yield
    finally:
        LocalLogger.plot_progress_png, torch.set_num_interop_threads = draw, tell
        for (backend, name), value in zip(backends, before, strict=True):
            setattr(backend, name, value)
        torch.set_num_threads(threads)
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
