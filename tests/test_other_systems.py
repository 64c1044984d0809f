"""What Windows, and disks without links, do not have is done without: held by their rules, not by running there."""

import ast
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import adnext_plugin
from adnext_plugin.errors import SettingsError
from adnext_plugin.files import link_or_copy, replacing
from adnext_plugin.importing.case_names import case_ids
from adnext_plugin.importing.scans import Scan
from adnext_plugin.names import require_file_name

PACKAGE = Path(adnext_plugin.__file__).parent
# of POSIX alone; those that stand behind a guard, by file
POSIX = {
    "signal": {"SIGKILL", "SIGPIPE", "SIGHUP", "SIGALRM", "SIGUSR1", "alarm"},
    "os": {"fork", "killpg", "setsid", "getuid", "geteuid", "statvfs", "mkfifo", "sysconf", "sched_getaffinity"},
}
GUARDED = {("cpu_memory.py", "sysconf"), ("environment.py", "sched_getaffinity")}
MODULES = {"fcntl", "resource", "pwd", "grp", "termios"}


def _of_posix(source: str) -> Iterator[str]:
    """Attributes and modules that Windows does not have; modules whose absence is caught do not count."""
    tree = ast.parse(source)
    tried = {id(node) for guard in ast.walk(tree) if isinstance(guard, ast.Try) for node in ast.walk(guard)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in POSIX.get(node.value.id, ()):
                yield node.attr
        elif isinstance(node, ast.Import) and id(node) not in tried:
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            yield str(node.module)


def test_nothing_of_posix_alone_is_used_unguarded() -> None:
    found = {(path.name, name) for path in PACKAGE.rglob("*.py") for name in _of_posix(path.read_text())}
    assert found == GUARDED


@pytest.mark.parametrize("line", ["signal.SIGKILL", "os.fork()", "import fcntl", "from resource import getrusage"])
def test_the_search_sees(line: str) -> None:
    assert list(_of_posix(line))


def test_a_module_whose_absence_is_caught_is_let_pass() -> None:
    assert not list(_of_posix("try:\n    import fcntl\nexcept ImportError:\n    fcntl = None"))


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, "Windows"])
def test_where_there_can_be_no_links_there_are_copies(tmp_path: Path, monkeypatch, code: int | str) -> None:
    def refuse(*_: object) -> None:
        error = OSError(errno.EINVAL if code == "Windows" else code, "no links here")
        if code == "Windows":
            error.winerror = 1314
        raise error

    (tmp_path / "scan").write_bytes(b"voxels")
    link_or_copy(tmp_path / "scan", tmp_path / "link", "scan")
    assert (tmp_path / "link").is_symlink()
    monkeypatch.setattr(Path, "symlink_to", refuse)
    link_or_copy(tmp_path / "scan", tmp_path / "copy", "scan")
    assert not (tmp_path / "copy").is_symlink() and (tmp_path / "copy").read_bytes() == b"voxels"


def test_another_fault_of_a_link_is_not_hidden_by_a_copy(tmp_path: Path) -> None:
    (tmp_path / "scan").write_bytes(b"voxels")
    with pytest.raises(FileExistsError):
        link_or_copy(tmp_path / "scan", tmp_path / "scan")


def test_files_are_flushed_through_a_handle_that_may_write(tmp_path: Path, monkeypatch) -> None:
    flushed = []

    fcntl = pytest.importorskip("fcntl")

    def fsync(number: int) -> None:
        # as Windows, which refuses a handle that may only read
        flushed.append(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE)

    monkeypatch.setattr("adnext_plugin.files.os.fsync", fsync)
    with replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
    assert flushed == [os.O_RDWR]


@pytest.mark.parametrize("name", ["a:b", "what?", "CON", "nul.json", "lpt1.x.y", "ends.", "ends "])
def test_names_that_windows_does_not_have_are_refused_there_and_only_there(monkeypatch, name: str) -> None:
    assert require_file_name(name, "a name") == name
    monkeypatch.setattr("adnext_plugin.names.os.name", "nt")
    with pytest.raises(SettingsError, match=r"Windows"):
        require_file_name(name, "a name")
    assert require_file_name("console.json", "a name") == "console.json"


def test_a_person_called_like_a_device_of_windows_has_a_case_that_is_none() -> None:
    scans = [Scan(image=Path("x.nii.gz"), subject_id=name, session_id="", row={}) for name in ("COM1", "COM10", "aux")]
    first, second, third = case_ids(scans)
    assert first.startswith("COM1-") and second == "COM10" and third.startswith("aux-")
