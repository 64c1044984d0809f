"""What is not complete yet belongs to whoever makes it; what nobody makes any more is removed."""

import subprocess
import sys
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
