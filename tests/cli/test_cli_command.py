"""What a user can mend is one line and exit code 2; a fault of ours has its traceback; signals leave nothing behind."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from adnext_plugin.cli.command import REPORT, command, new_parser
from adnext_plugin.errors import PathsError


def _fail_with(error: BaseException) -> Callable[[Sequence[str] | None], int]:
    @command
    def main(argv: Sequence[str] | None = None) -> int:
        new_parser("adnext_test", "").parse_args(argv)
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PathsError("a.json does not exist"), "error: a.json does not exist"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/x"),
            "error: /data/x: Permission denied; change its",
        ),
        (IsADirectoryError(errno.EISDIR, "Is a directory", Path("d")), "error: d: Is a directory; it is a folder"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n"), "error: n: File name too long; use shorter names"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "error: Disk quota exceeded; free some of your quota"),
        (MemoryError(), "error: memory ran out; use fewer processes"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\n9 GiB"),
            "error: the GPU's memory ran out; use",
        ),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), "error: the GPU's memory ran out; use"),
    ],
)
def test_what_a_user_can_mend_is_one_line(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _fail_with(error)([]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(line) and len(shown.splitlines()) == 1


def test_debug_shows_where_an_error_arose(capsys: pytest.CaptureFixture[str]) -> None:
    assert _fail_with(PathsError("x"))(["--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert _fail_with(PathsError("x"))([]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyError("x"), OSError("no file's name"), ZeroDivisionError()])
def test_a_fault_of_ours_keeps_its_traceback_and_asks_for_a_report(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        _fail_with(error)([])
    assert caught.value.__notes__ == [REPORT]


COMMAND = """
import signal, sys, time
from pathlib import Path
from adnext_plugin.cli.command import command
from adnext_plugin.files import replacing_folder

# a process in the background may have been started with SIGINT ignored
signal.signal(signal.SIGINT, signal.default_int_handler)


@command
def main(argv=None):
    with replacing_folder(Path(sys.argv[1]) / "result"):
        print("ready", flush=True)
        time.sleep(60)
    return 0

sys.exit(main())
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_without_leftovers(number: signal.Signals, code: int, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", COMMAND, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, shown = process.communicate()
    assert process.returncode == code and "run the same command again to continue" in shown
    assert not list(tmp_path.iterdir())


WORKERS = """
import os, sys, time
from adnext_plugin.parallel import for_each

def work(folder):
    open(f"{folder}/{os.getpid()}", "w").close()
    time.sleep(0.2)

if __name__ == "__main__":
    for _ in for_each(work, [sys.argv[1]] * 1000, processes=2, description="Waiting"):
        pass
"""


def test_workers_of_a_killed_command_end(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(WORKERS)
    (tmp_path / "pids").mkdir()
    arguments = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "pids")]
    with subprocess.Popen(arguments, stderr=subprocess.DEVNULL) as process:
        while len(workers := [int(path.name) for path in (tmp_path / "pids").iterdir()]) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    for _ in range(2000):
        if not any(_is_alive(worker) for worker in workers):
            break
        time.sleep(0.01)
    assert not any(_is_alive(worker) for worker in workers)


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
        return Path(f"/proc/{process_id}/stat").read_text().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
