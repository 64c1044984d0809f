"""One fold trained by several processes: started here, for --num-gpus, or by torchrun.

Under torchrun every process runs the whole command. The first does what the command does; the others wait for it to say
which fold is trained next, so that nobody looks at files that the first has just moved.
"""

import gc
import os
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from adnext_plugin import errors
from adnext_plugin.environment import environment_with, usable_cpus
from adnext_plugin.errors import AdnextError, LostProcessError, SettingsError
from adnext_plugin.files import read_json, write_json
from adnext_plugin.log import telling, without_nnunets_search
from adnext_plugin.memory_shortage import FOR_TRAINING, free_gpu_memory, memory_that_may_run_out
from adnext_plugin.mending import problem
from adnext_plugin.nnunet_lookup import find_in_files
from adnext_plugin.workflows.common import Tell, say_nothing
from adnext_plugin.workflows.endings import SENT, end_in_words

PATIENCE = timedelta(hours=1)  # for one process that is slower than the others
POLL_S = 5.0
SECONDS_FOR_THE_CAUSE = 5.0  # for whoever has started the processes to see which of them ended first
# words of Gloo and NCCL where a process at the other end is gone, and those of a store that nobody keeps any more
OF_LOST_PROCESSES = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Timed out waiting",
    "ncclRemoteError",
    "remote process exited",
    "recvValue failed",
    "sendBytes failed",
)
AGAIN = "the same command goes on with the run"


@dataclass(frozen=True, kw_only=True)
class FoldTraining:
    """What nnU-Net's `run_training` is told of a fold; `device` is cpu, cuda or mps."""

    arguments: Mapping[str, Any]
    device: str

    def run(self) -> None:
        """Train, in this process, alone or as one of a group.

        Raises:
            AdnextError: memory ran out, or what the run raises.
        """
        import torch
        from nnunetv2.run.run_training import run_training

        find_in_files(self.arguments["trainer_class_name"])  # nnU-Net's search may have to be tried before it succeeds
        try:
            with memory_that_may_run_out(FOR_TRAINING):
                run_training(**self.arguments, device=torch.device(self.device))
        finally:
            # a run refers to itself, and want of a GPU's memory has nobody look for it: the next fold would have less
            gc.collect()
            free_gpu_memory()


def require_processes(count: int, device: str) -> None:
    """Refuse numbers of processes that cannot be.

    Raises:
        SettingsError: there are fewer GPUs, torchrun has started processes already, or there is none.
    """
    if count < 1:
        raise SettingsError(f"--num-gpus must be at least 1, got {count}")
    if count == 1:
        return
    if started_by_torchrun():
        raise SettingsError(f"--num-gpus {count}: torchrun has started the processes; leave it out")
    if device == "mps":
        raise SettingsError(f"--num-gpus {count}: this machine has one GPU; leave it out")
    if device == "cuda":
        import torch

        if count > torch.cuda.device_count():
            raise SettingsError(
                f"--num-gpus {count}: torch sees {torch.cuda.device_count()} GPU(s) here; give that number or fewer"
            )


def started_by_torchrun() -> bool:
    """Whether this is one of several processes that run one command."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_follower() -> bool:
    """Whether another process of torchrun's does what the command does, and this one trains with it."""
    return started_by_torchrun() and os.environ["RANK"] != "0"


def train_together(training: FoldTraining, count: int, tell: Tell) -> None:
    """Train a fold, in as many processes as torchrun has started, or else in `count`; the first of these tells.

    Raises:
        AdnextError: what a process raised, or that one was killed.
    """
    if started_by_torchrun():
        with _that_may_lose_others():
            _join_torchrun(training.device)
            _tell_followers((training, dict(os.environ)))
            training.run()
    elif count > 1:
        _train_in_processes(training, count, tell)
    else:
        training.run()


def dismiss_followers(device: str) -> None:
    """Let the other processes of torchrun's end; called by the first when nothing is left to train."""
    if started_by_torchrun():
        import torch.distributed as dist

        with _that_may_lose_others():
            _join_torchrun(device)
            _tell_followers(None)
        dist.destroy_process_group()


def follow(device: str) -> None:
    """Train what the first process says, until it says that nothing is left.

    Raises:
        AdnextError: the run raises it, or another process is gone.
    """
    import torch.distributed as dist

    with _that_may_lose_others():
        while (told := _what_is_next(device)) is not None:
            training, environment = told
            own = ("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK")
            theirs = {name: value for name, value in environment.items() if name not in own}
            with environment_with(**theirs), without_nnunets_search():
                training.run()
    dist.destroy_process_group()


@contextmanager
def _that_may_lose_others() -> Iterator[None]:
    """Say in one line that another process is gone, where this one notices it by what it waits for."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in OF_LOST_PROCESSES):
            raise
        raise LostProcessError(
            f"another of the processes that train together has ended; it, or what started it, says why, and {AGAIN}"
        ) from error


def _what_is_next(device: str) -> Any:
    """What the first process says. While it has nothing to say, SIGTERM ends this one, which holds nothing, at once.

    A handler of Python's would wait until the first process says something, and it may be gone.
    """
    if threading.current_thread() is not threading.main_thread():
        _join_torchrun(device)
        return _tell_followers(None)
    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        _join_torchrun(device)
        return _tell_followers(None)
    finally:
        signal.signal(signal.SIGTERM, handler)


def _join_torchrun(device: str) -> None:
    import torch.distributed as dist

    if not dist.is_initialized():
        _join(device, int(os.environ["LOCAL_RANK"]))


def _join(device: str, place: int, **meeting: Any) -> None:
    import torch
    import torch.distributed as dist

    if device == "cuda":
        if place >= (there_are := torch.cuda.device_count()):
            raise SettingsError(
                f"process {place + 1} of this machine has no GPU: torch sees {there_are} here; start as many "
                f"processes (torchrun --nproc-per-node {max(1, there_are)}), or compute on processors (-device cpu)"
            )
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE, **meeting)


def _tell_followers(told: Any) -> Any:
    import torch.distributed as dist

    values = [told]
    dist.broadcast_object_list(values)
    return values[0]


def _train_in_processes(training: FoldTraining, count: int, tell: Tell) -> None:
    import torch.multiprocessing as multiprocessing
    from torch.multiprocessing.spawn import ProcessException

    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, usable_cpus() // count))
    with tempfile.TemporaryDirectory(prefix="adnext_") as name, environment_with(OMP_NUM_THREADS=threads):
        context = multiprocessing.start_processes(
            _one_of_several, (training, count, name, _sendable(tell)), nprocs=count, join=False, start_method="spawn"
        )
        try:
            while not context.join(timeout=POLL_S):
                pass
        except ProcessException as error:
            raise _reason(error, context.processes, Path(name)) or error from error
        finally:
            for process in context.processes:
                if process.is_alive():
                    process.terminate()


def _sendable(tell: Tell) -> Tell:
    """What another process can call; nothing is told of a function that cannot be sent there."""
    try:
        pickle.dumps(tell)
    except Exception:  # whatever is in it may refuse in its own way
        return say_nothing
    return tell


def _one_of_several(rank: int, training: FoldTraining, count: int, folder: str, tell: Tell) -> None:
    import torch.distributed as dist

    try:
        with _that_may_lose_others():
            _join(training.device, rank, init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
            with telling(tell):
                training.run()
    except Exception as error:
        if isinstance(error, LostProcessError):
            time.sleep(SECONDS_FOR_THE_CAUSE)
        if (lines := problem(error)) is None:
            raise
        write_json({"kind": type(error).__name__, "message": "\n".join(lines)}, Path(folder) / f"error_{rank}.json")
        raise SystemExit(2) from error
    dist.destroy_process_group()


def _reason(error: Any, processes: Any, folder: Path) -> AdnextError | None:
    """Why processes ended, if a user can do something about it; `error` is torch's and knows which ended first."""
    for path in sorted(folder.glob("error_*.json")):
        found = read_json(path)
        kind = getattr(errors, found["kind"], AdnextError)
        return kind(found["message"])
    code = processes[error.error_index].exitcode
    if code is None or code >= 0:
        return None
    said = ": what it said last stands above" if -code not in SENT else ""
    return AdnextError(f"process {error.error_index + 1} of {len(processes)} {end_in_words(-code)}{said}; {AGAIN}")
