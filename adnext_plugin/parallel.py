"""Doing one thing to many cases, in several processes or on a cluster, losing none because of another."""

import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait as wait_for_any
from typing import TypeVar

from adnext_plugin.cpu_memory import available_memory_bytes
from adnext_plugin.dask_cluster import Cluster
from adnext_plugin.errors import AdnextError
from adnext_plugin.progress import progress_bar

Argument = TypeVar("Argument")
Result = TypeVar("Result")

AHEAD = 4  # calls per process that have been made and not been taken


def for_each(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    *,
    processes: int,
    description: str,
    cluster: Cluster | None = None,
) -> Iterator[tuple[int, Result | AdnextError]]:
    """Call a function with each argument, in any order.

    Args:
        function: importable by name, as other processes call it; unless `processes` is 1.
        arguments: picklable.
        processes: how many at once.
        description: text of the progress bar.
        cluster: to run it on instead of in processes of this machine.

    Yields:
        Index of the argument, and the result or the `AdnextError` that it raised.

    Raises:
        AdnextError: a process was killed, usually for lack of memory, or the cluster is gone.
    """
    attempt = partial(_outcome, function)
    with progress_bar(total=len(arguments), desc=description, unit="case") as bar:
        if cluster is not None:
            outcomes = cluster.each(attempt, arguments, processes)
        elif processes <= 1 or len(arguments) <= 1:
            outcomes = ((index, attempt(argument)) for index, argument in enumerate(arguments))
        else:
            outcomes = _in_processes(attempt, arguments, min(processes, len(arguments)))
        for outcome in outcomes:
            yield outcome
            bar.update()


def _in_processes(
    function: Callable[[Argument], Result | AdnextError], arguments: Sequence[Argument], processes: int
) -> Iterator[tuple[int, Result | AdnextError]]:
    # spawned processes inherit neither threads nor memory of a parent that may have torch loaded
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent) as pool:
        waiting = iter(enumerate(arguments))
        running: dict[Future[Result | AdnextError], int] = {}
        try:
            # only a few at once, so that results do not pile up where the caller is slower
            while True:
                for index, argument in itertools.islice(waiting, AHEAD * processes - len(running)):
                    running[pool.submit(function, argument)] = index
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BrokenProcessPool as error:
            raise AdnextError(
                "a worker process was killed, most likely because memory ran out; use fewer with -np"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone; waiting for work, it would not notice."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch() -> None:
            wait_for_any([parent.sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def processes_that_fit(processes: int, bytes_each: int) -> int:
    """As many processes as asked for, or as have room in the memory that this job has left; at least one.

    Where the system does not tell (anything but Linux), as many as asked for.
    """
    available = available_memory_bytes()
    return processes if available is None else max(1, min(processes, available // bytes_each))


def _outcome(function: Callable[[Argument], Result], argument: Argument) -> Result | AdnextError:
    try:
        return function(argument)
    except AdnextError as error:
        return error
