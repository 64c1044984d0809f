"""Processes that train a fold together: whatever ends one of them ends the others, and is one line."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from stricken import Stricken
from torch.multiprocessing.spawn import ProcessException

from adnext_plugin.cli.command import REPORT
from adnext_plugin.errors import AdnextError, SettingsError
from adnext_plugin.workflows.common import say_nothing
from adnext_plugin.workflows.processes import follow, train_together

HERE = Path(__file__).parent
LOST = "error: another of the processes that train together has ended; it, or what started it, says why, and the same "


@pytest.mark.parametrize(
    ("what", "kind", "line"),
    [
        (
            "killed",
            AdnextError,
            "process 2 of 2 was killed by SIGKILL, most likely for want of memory; the same command",
        ),
        ("terminated", AdnextError, "process 2 of 2 was ended by SIGTERM, which another program or a person sent; the"),
        ("aborted", AdnextError, "process 2 of 2 was ended by SIGABRT, a fault in a library or the machine: what it"),
        ("disk", AdnextError, "No space left on device; free some space and run the command again"),
        ("refused", SettingsError, "lower the rate"),
    ],
)
def test_a_process_that_ends_early_is_one_line_that_says_how(what: str, kind: type, line: str) -> None:
    with pytest.raises(kind) as caught:
        train_together(Stricken(rank=1, what=what), 2, say_nothing)
    assert str(caught.value).startswith(line) and len(str(caught.value).splitlines()) == 1


def test_a_fault_of_ours_in_a_process_keeps_its_traceback() -> None:
    with pytest.raises(ProcessException, match=r"(?s)Traceback.*KeyError: 'ours'"):
        train_together(Stricken(rank=0, what="fault"), 2, say_nothing)


def test_a_process_of_torchruns_without_a_gpu_is_one_line(monkeypatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SettingsError, match=r"^process 3 of this machine has no GPU: torch sees 2 here; .*node 2\)"):
        follow("cuda")


def _torchrun(rank: int, what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    words = [*command, str(HERE / "stricken.py"), str(rank), what]
    return subprocess.run(words, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(("rank", "what"), [(0, "killed"), (1, "killed"), (0, "refused"), (0, "refused before")])
def test_when_a_process_of_torchruns_ends_the_other_says_at_most_one_line(rank: int, what: str) -> None:
    begun = time.monotonic()
    done = _torchrun(rank, what)
    assert done.returncode != 0 and time.monotonic() - begun < 60
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    # torchrun may end the other before it has noticed
    assert len([line for line in said if line.startswith(LOST)]) <= 1, done.stderr
    assert [line for line in said if not line.startswith(LOST)] == (
        [] if what == "killed" else ["error: lower the rate"]
    )
    assert REPORT not in done.stderr and "adnext_plugin/" not in done.stderr, done.stderr


def test_processes_of_torchruns_end_well_when_nothing_is_left_to_train() -> None:
    done = _torchrun(1, "nothing")
    assert done.returncode == 0 and "error: " not in done.stderr, done.stderr
