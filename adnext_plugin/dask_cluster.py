"""A Dask cluster, one's own or of this machine's cores, to which calls are handed. The extra `dask` is needed.

Dask hands the call of a worker that died to another one, so that a function must bear being called twice.
"""

import importlib.util
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adnext_plugin.errors import AdnextError, SettingsError

if TYPE_CHECKING:
    from distributed import Client, Future

LOCAL, SCHEME = "dask", "dask://"
ANSWER_SECONDS = 15  # for a scheduler to answer, and to have a worker
IDLE_SECONDS = 300  # that a running command waits when all workers are gone, as batch systems may send others
POLL_SECONDS = 5
AHEAD = 4  # calls per thread of a remote cluster that have been made and not been taken


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A connected cluster; a local one runs no more calls at once than it is told, as they share one memory."""

    client: "Client"
    is_local: bool

    def each(
        self, function: Callable[[Any], Any], arguments: Sequence[Any], processes: int
    ) -> Iterator[tuple[int, Any]]:
        """Call a function with each argument.

        Args:
            function: installed on the workers too.
            arguments: picklable; paths in them must mean the same on every worker.
            processes: how many at once, in a local cluster; a remote one has as many as it has threads.

        Yields:
            Index of the argument, in any order, and the result; or an `AdnextError` if it killed several workers.

        Raises:
            AdnextError: the cluster, or all of its workers, are gone.
        """
        waiting = iter(enumerate(arguments))
        running: dict[Future, int] = {}
        while True:
            at_once = processes if self.is_local else AHEAD * max(1, sum(self.client.nthreads().values()))
            for index, argument in itertools.islice(waiting, max(0, at_once - len(running))):
                running[self.client.submit(function, argument, pure=False)] = index
            if not running:
                return
            for future in self._wait(running):
                yield running.pop(future), _result(future)

    def _wait(self, running: dict["Future", int]) -> list["Future"]:
        from distributed import wait

        last_seen = time.monotonic()
        while True:
            try:
                return list(wait(list(running), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done)
            except TimeoutError:
                pass
            if self.client.nthreads():
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > IDLE_SECONDS:
                raise AdnextError(
                    f"the Dask cluster has had no worker for {IDLE_SECONDS} s; start workers and run this again, "
                    "finished cases are kept"
                )


@contextmanager
def open_cluster(executor: str, processes: int) -> Iterator[Cluster]:
    """Start a cluster on this machine, or connect to one.

    Args:
        executor: "dask", or dask://HOST:PORT of a scheduler.
        processes: workers of a local cluster.

    Raises:
        SettingsError: no such executor; Dask is not installed; nobody answers, or there is no worker.
    """
    address = executor.removeprefix(SCHEME)
    if executor != LOCAL and (not executor.startswith(SCHEME) or not address):
        raise SettingsError(f"--executor {executor}: give processes, dask, or dask://HOST:PORT of a scheduler")
    require_dask(executor)
    from distributed import Client, LocalCluster

    if executor == LOCAL:
        options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
        with LocalCluster(n_workers=processes, silence_logs=logging.ERROR, **options) as local, Client(local) as client:
            yield Cluster(client=client, is_local=True)
        return
    with _connect(address) as client:
        yield Cluster(client=client, is_local=False)


def require_dask(executor: str) -> None:
    """Make sure that Dask is installed, for an executor that needs it.

    Raises:
        SettingsError: it is not.
    """
    if importlib.util.find_spec("distributed") is None:
        raise SettingsError(f"--executor {executor} needs Dask: pip install 'adnext_plugin[dask]'")


def _connect(address: str) -> "Client":
    if "://" not in address:
        address = f"tcp://{address}"
    client = _within(ANSWER_SECONDS, address)
    if client is None:
        raise SettingsError(
            f"no Dask scheduler answers at {address} within {ANSWER_SECONDS} s; start one (dask scheduler), or correct "
            "--executor"
        )
    try:
        client.wait_for_workers(1, timeout=ANSWER_SECONDS)
    except TimeoutError as error:
        client.close()
        raise SettingsError(
            f"the Dask scheduler at {address} has no worker; start some (dask worker {address} --nthreads 1)"
        ) from error
    return client


def _within(seconds: float, address: str) -> "Client | None":
    """Connect in a thread that can be left behind: Dask waits on for ever for a peer that says nothing."""
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it prints tracebacks of what is one line here
    found = []

    def connect() -> None:
        with suppress(OSError, ValueError):  # TimeoutError is an OSError
            found.append(Client(address, timeout=seconds))

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds + 1)
    return found[0] if found else None


def _result(future: "Future") -> Any:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        return AdnextError(
            f"several Dask workers died of this case, most likely because memory ran out ({str(error).splitlines()[0]})"
        )
    except CancelledError as error:
        raise AdnextError(
            "the connection to the Dask scheduler was lost; run this again, finished cases are kept"
        ) from error
