"""What is not complete yet belongs to whoever makes it; what nobody makes any more is removed."""

import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from adnext_plugin.errors import PathsError
from adnext_plugin.files import read_json, replacing, replacing_folder
from adnext_plugin.partial_files import PARTIAL, REPLACED, partial_file, partial_folder, remove_abandoned

MAKER = """
import sys, time
from pathlib import Path
from adnext_plugin.partial_files import partial_file, partial_folder
with partial_file(Path(sys.argv[1]), "a.nii.gz"), partial_folder(Path(sys.argv[1]), "Dataset001_A") as folder:
    (folder / "file").write_text("1")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_makes_is_not(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", MAKER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        assert not remove_abandoned(tmp_path) and len(list(tmp_path.iterdir())) == 2
        process.kill()
    (tmp_path / ".partial-of-somebody-else").touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / f"{PARTIAL}x").touch()
    assert len(remove_abandoned(tmp_path)) == 2
    assert len(remove_abandoned(tmp_path, deep=True)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-of-somebody-else", "inner"]


def test_own_unfinished_files_are_left_alone_and_go_with_the_block(tmp_path: Path) -> None:
    with partial_file(tmp_path, "x" * 250) as file, partial_folder(tmp_path) as folder:
        assert not remove_abandoned(tmp_path) and file.is_file() and folder.is_dir()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
@pytest.mark.parametrize("make", [lambda folder: partial_file(folder, "a.nii.gz"), partial_folder])
def test_what_is_taken_for_abandoned_before_it_is_locked_is_made_once_more(tmp_path: Path, monkeypatch, make) -> None:
    judged, makers = threading.Event(), {"mkstemp": tempfile.mkstemp, "mkdtemp": tempfile.mkdtemp}
    remover = threading.Thread(target=remove_abandoned, args=(tmp_path,))

    def slowly(remove):
        def removed(path, *rest, **options):
            if threading.current_thread() is remover:
                judged.set()
                time.sleep(0.3)  # its maker goes on meanwhile
            return remove(path, *rest, **options)

        return removed

    def made(name):
        def make_and_be_seen(*words, **options):
            found = makers[name](*words, **options)
            if remover.ident is None:
                remover.start()
                assert judged.wait(30)
            return found

        return make_and_be_seen

    for name in makers:
        monkeypatch.setattr(tempfile, name, made(name))
    monkeypatch.setattr(Path, "unlink", slowly(Path.unlink))
    monkeypatch.setattr(shutil, "rmtree", slowly(shutil.rmtree))
    with make(tmp_path) as path:
        remover.join()
        assert path.exists() and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_put_back_while_it_is_replaced_is_replaced_nonetheless(tmp_path: Path, monkeypatch) -> None:
    folder, rename, disturbed = tmp_path / "model", Path.rename, []

    def disturbed_once(path: Path, target: Path) -> Path:
        if path.name.startswith(PARTIAL) and not disturbed:
            disturbed.append(path)
            remove_abandoned(tmp_path)
            assert (folder / "first").is_file()
        return rename(path, target)

    for name in ("first", "second"):
        with replacing_folder(folder) as new:
            (new / name).touch()
        monkeypatch.setattr(Path, "rename", disturbed_once)
    assert disturbed and [path.name for path in folder.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_moved_aside_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    aside = tmp_path / f"{REPLACED}Dataset001_A"
    aside.mkdir()
    (aside / "dataset.json").write_text("{}")
    remove_abandoned(tmp_path)
    assert (tmp_path / "Dataset001_A" / "dataset.json").is_file() and not aside.exists()


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with replacing_folder(folder) as new:
        (new / "first").touch()
    with pytest.raises(ValueError, match="no"), replacing_folder(folder) as new:
        (new / "second").touch()
        raise ValueError("no")
    assert [path.name for path in folder.iterdir()] == ["first"]
    with replacing_folder(folder) as new:
        (new / "third").touch()
    assert [path.name for path in folder.iterdir()] == ["third"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_earlier_file_outlives_a_writer_that_reaches_the_limit_of_file_sizes(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    path.write_text("{}")
    code = f"""
import resource
from pathlib import Path
from adnext_plugin.files import replacing
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with replacing(Path({str(path)!r})) as temporary:
    temporary.write_text("1" * 5000)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "PathsError: no space left on the disk while writing" in run.stderr
    assert path.read_text() == "{}" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[" * 200_000, "nested too deeply"), (b"\xff\xfe", "is not valid JSON"), (b"", "is not valid JSON")],
)
def test_json_that_nobody_could_have_meant_is_refused_by_name(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(PathsError, match=f"a.json.*{message}"):
        read_json(tmp_path / "a.json")
    with pytest.raises(PathsError, match="is not a file; put the file there"):
        read_json(tmp_path)


def test_replacing_cleans_up_beside_what_it_writes(tmp_path: Path) -> None:
    (tmp_path / f"{PARTIAL}left").touch()
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("a")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
