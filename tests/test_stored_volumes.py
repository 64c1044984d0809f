"""What is stored of a case is read as it was written, or not at all; damage is named, and healed by preparing again."""

import os
import pickle
import random
import re
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import blosc2
import numpy as np
import pytest
from conftest import Workspace

from adnext_plugin.case_properties import read_case_properties
from adnext_plugin.cli import plan_and_preprocess, quality, train
from adnext_plugin.data.store import CaseStore
from adnext_plugin.errors import AdnextWarning, ImageError, PathsError
from adnext_plugin.headers import file_doubts
from adnext_plugin.images import file_sha256
from adnext_plugin.importing.image_files import is_dicom
from adnext_plugin.stored_volumes import is_intact, read_case, read_volume_of, write_volume

DATA = "ADNeXtPlans_3d_fullres"
SIZE = (32, 32, 32)


@pytest.fixture
def prepared(toy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the toy dataset's prepared cases, in use."""
    shutil.copytree(toy.preprocessed, tmp_path / "preprocessed")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "preprocessed" / "Dataset301_Toy" / DATA


def _prepare(preset: Path) -> int:
    return plan_and_preprocess.main(["-d", "301", "-np", "1", "--preset", str(preset / "preset.json")])


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", [".b2nd", ".pkl"])
def test_a_pipe_in_place_of_a_file_is_named_and_not_waited_for(prepared: Path, capsys, suffix: str) -> None:
    path = prepared / f"sub03_M00{suffix}"
    properties = read_case_properties(prepared / "sub03_M00.pkl")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PathsError, match=rf"sub03_M00\{suffix} is not a file"):
        read_case(prepared, "sub03_M00")
    assert suffix == ".pkl" or not is_intact(path, properties)
    assert quality.main(["-d", "301", "-np", "1"]) == 2
    assert f"sub03_M00{suffix}" in capsys.readouterr().err
    for read in (file_sha256, file_doubts):
        with pytest.raises(FileNotFoundError):
            read(path)
    assert not is_dicom(path)


@pytest.mark.parametrize("suffix", [".b2nd", ".pkl"])
def test_a_flipped_bit_is_never_read_as_something_else(prepared: Path, suffix: str) -> None:
    path = prepared / f"sub03_M00{suffix}"
    whole = path.read_bytes()
    volume, properties = read_case(prepared, "sub03_M00")
    generator = random.Random(18)
    for bit in generator.sample(range(8 * len(whole)), 300):
        _flip(path, bit)
        with pytest.raises(PathsError, match="adnext_plan_and_preprocess") as error:
            read_case(prepared, "sub03_M00")
        assert str(path) in str(error.value) and "\n" not in str(error.value)
        path.write_bytes(whole)
    again, same = read_case(prepared, "sub03_M00")
    assert np.array_equal(volume, again) and properties == same


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flipped(path: Path) -> None:
    _flip(path, 8 * path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [_truncated, _flipped, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("suffix", [".b2nd", ".pkl"])
def test_a_damaged_case_is_prepared_again_and_no_other(prepared, toy, capsys, damage, suffix) -> None:
    before = _hashes(prepared)
    damage(prepared / f"sub03_M00{suffix}")
    assert _prepare(toy.source) == 0
    printed = capsys.readouterr().out
    assert "1 cases prepared, 16 were finished already" in printed
    was_there = suffix == ".b2nd" or damage is not Path.unlink
    assert ("1 of them had been damaged on disk since, for example sub03_M00" in printed) == was_there
    assert _hashes(prepared) == before and not list(prepared.parent.glob("*.partial"))


@pytest.mark.parametrize("damage", [_truncated, _flipped])
def test_training_and_quality_name_a_damaged_case(prepared, capsys, damage) -> None:
    damage(prepared / "sub03_M00.b2nd")
    assert train.main(["301", "3d_fullres", "all", "-tr", "ADNeXtTrainer_T", "-device", "cpu"]) == 2
    assert quality.main(["-d", "301", "-np", "1"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "sub03_M00.b2nd is damaged" in line]
    assert len(errors) == 2 and all("run adnext_plan_and_preprocess" in line for line in errors)


def test_values_that_are_not_finite_are_neither_stored_nor_read(prepared: Path, tmp_path: Path) -> None:
    volume, _properties = read_case(prepared, "sub03_M00")
    volume[0, 3, 4, 5] = np.nan
    with pytest.raises(ImageError, match="not finite"):
        write_volume(volume, tmp_path / "a.b2nd", tmp_path)
    assert not (tmp_path / "a.b2nd").exists()
    # as an earlier version, or another program, may have left it
    (tmp_path / "a.b2nd").write_bytes(blosc2.asarray(volume).to_cframe())
    with pytest.raises(PathsError, match=r"a\.b2nd holds values that are not finite"):
        read_volume_of(tmp_path / "a.b2nd", None)


def test_an_input_that_is_not_finite_is_named(prepared: Path) -> None:
    def to_input(image_czyx: np.ndarray) -> np.ndarray:
        return image_czyx / 0.0 if image_czyx.max() > 0 else image_czyx

    store = CaseStore(prepared, ["sub03_M00"], SIZE, to_input)
    with np.errstate(all="ignore"), pytest.raises(PathsError, match=r"sub03_M00.b2nd becomes an input .* not finite"):
        store[0]


def _as_of_an_earlier_version(folder: Path, cases: list[str]) -> None:
    """Notes without hashes, of format version 1."""
    for case in cases:
        content = pickle.loads((folder / f"{case}.pkl").read_bytes())
        for key in ("checksum", "volume_sha256", "format", "format_version"):
            del content[key]
        (folder / f"{case}.pkl").write_bytes(pickle.dumps(content))


def test_cases_of_an_earlier_version_are_used_as_they_are_and_it_is_said_once(prepared, toy, capsys) -> None:
    volumes = [read_case(prepared, case)[0] for case in ("sub03_M00", "sub04_M00")]
    _as_of_an_earlier_version(prepared, ["sub03_M00", "sub04_M00"])
    before = _hashes(prepared)
    assert _prepare(toy.source) == 0
    printed = capsys.readouterr().out
    assert "0 cases prepared, 17 were finished already" in printed
    assert len(re.findall("2 finished cases are of an earlier version, which noted no hashes", printed)) == 1
    assert _hashes(prepared) == before
    store = CaseStore(prepared, ["sub03_M00", "sub04_M00"], SIZE)
    with pytest.warns(AdnextWarning, match="prepared by an earlier version") as warned:
        assert all(np.array_equal(store[index], volume) for index, volume in enumerate(volumes))
    assert len({str(warning.message) for warning in warned}) == 1
    # what cannot be read at all is found there, too
    _truncated(prepared / "sub04_M00.b2nd")
    assert not is_intact(prepared / "sub04_M00.b2nd", read_case_properties(prepared / "sub04_M00.pkl"))
    assert _prepare(toy.source) == 0
    assert "1 cases prepared, 16 were finished already" in capsys.readouterr().out


def test_a_damaged_volume_without_a_hash_never_ends_the_process(prepared: Path) -> None:
    """What the library makes of damaged bytes is an error, not a crash; a process of its own would show one."""
    _as_of_an_earlier_version(prepared, ["sub03_M00"])
    code = """
import random, sys
from pathlib import Path
from adnext_plugin.errors import PathsError
from adnext_plugin.stored_volumes import read_volume_of
path, generator, refused = Path(sys.argv[1]), random.Random(1), 0
whole = path.read_bytes()
for trial in range(300):
    content = bytearray(whole)
    for _ in range(generator.choice([1, 8, 64])):
        content[generator.randrange(len(content) if trial % 2 else 200)] ^= 1 << generator.randrange(8)
    path.write_bytes(content[: generator.choice([len(content), len(content), generator.randrange(len(content))])])
    try:
        read_volume_of(path, None)
    except PathsError:
        refused += 1
print("refused", refused)
"""
    path = prepared / "sub03_M00.b2nd"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout.split()[1]) > 150


def test_two_commands_at_once_prepare_one_whole_dataset(toy: Workspace, tmp_path: Path) -> None:
    """One waits for the other, finds all cases finished, and both leave what one alone leaves."""
    environment = os.environ | {"nnUNet_preprocessed": str(tmp_path / "preprocessed")}
    command = [Path(sys.executable).parent / "adnext_plan_and_preprocess", "-d", "301", "-np", "1"]
    command += ["--preset", str(toy.source / "preset.json")]
    both = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(re.search(r"(\d+) cases prepared", text)[1] for text in printed) == ["0", "17"]
    assert sum("another command is preparing Dataset301_Toy" in text for text in printed) == 1
    folder = tmp_path / "preprocessed" / "Dataset301_Toy"
    expected = toy.preprocessed / "Dataset301_Toy" / DATA
    assert _hashes(folder / DATA) == _hashes(expected) and not list(folder.glob("*.partial"))
