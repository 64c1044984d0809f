"""Whatever a file, an option or a disk can cause is one line with exit code 2, and shows as nothing but text."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Trained, Workspace

from adnext_plugin.cli import audit, compare, evaluate, export, import_dataset, plan_and_preprocess, predict, train
from adnext_plugin.cli.command import command
from adnext_plugin.cli.printable import printable
from adnext_plugin.errors import PathsError
from adnext_plugin.files import read_json
from adnext_plugin.report import figures
from adnext_plugin.splits.likeness import _read_cache


def _one_error(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1
    return lines[0]


def test_a_gpu_of_apples_that_is_not_there_is_one_line(toy: Workspace, capsys) -> None:
    assert train.main(["301", "3d_fullres", "0", "-device", "mps"]) == 2
    assert _one_error(capsys) == "error: -device mps: torch sees no GPU of Apple's here; use -device cpu"


@pytest.mark.parametrize("content", [b"these are no weights\n", b"", b"PK\x03\x04 nor these", b"\x80\x04K\x01."])
def test_a_file_of_other_content_as_first_weights_is_one_line(toy, tmp_path, capsys, content) -> None:
    (tmp_path / "weights.txt").write_bytes(content)
    first = ["-pretrained_weights", str(tmp_path / "weights.txt"), "--skip-audit", "no need"]
    small = ["-tr", "ADNeXtTrainer_T", "-device", "cpu", "--set", "epochs=1", "--set", "warmup_epochs=0"]
    assert train.main(["301", "3d_fullres", "0", *small, *first]) == 2
    assert "weights.txt" in _one_error(capsys)


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing_behind(trained: Trained, small_disk: Path, capsys) -> None:
    assert export.main([str(trained.run), "-o", str(small_disk / "toy.zip"), "-device", "cpu"]) == 2
    assert _one_error(capsys).startswith(f"error: no space left on the disk while writing {small_disk / 'toy.zip'}")
    assert not list(small_disk.iterdir())


def test_numbers_are_kept_where_a_figure_cannot_be_drawn(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluate.main(["301", "-tr", "ADNeXtTrainer_T"]) == 0
    folder = trained.run / "crossval_results"
    before = {name: (folder / name).read_bytes() for name in ("metrics.json", "predictions.csv")}
    assert (folder / "roc.png").is_file()
    shutil.copytree(folder, folder.with_name("kept"))
    for name in before:
        (folder / name).unlink()

    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(figures, "draw_roc", fails)
    with pytest.raises(ZeroDivisionError):
        evaluate.main(["301", "-tr", "ADNeXtTrainer_T"])
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert not (folder / "roc.png").exists()  # none of another evaluation


def test_a_pipe_or_a_folder_in_place_of_json_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "circle.json").symlink_to("circle.json")
    (tmp_path / "text.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "digits.json").write_text("9" * 5000)
    for path in tmp_path.iterdir():
        with pytest.raises(PathsError, match=path.name):
            read_json(path)


def test_links_in_a_circle_are_one_line_wherever_a_model_or_a_run_is_named(toy, tmp_path, capsys) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to("circle")
    scan = str(toy.source / "sub00_M00.nii.gz")
    for asked, words in (
        (predict, ["-i", scan, "-m", str(circle), "-o", str(tmp_path / "out")]),
        (export, [str(circle), "-o", str(tmp_path / "model.zip")]),
        (compare, ["301", str(circle), str(circle)]),
    ):
        assert asked.main(words) == 2
        assert "circle" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() and not (tmp_path / "model.zip").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"overwrite_image_reader_writer": ["NibabelIO"]},
        {"overwrite_image_reader_writer": {}},
        {"file_ending": None},
        {"file_ending": [".nii.gz"]},
    ],
)
def test_what_nnunet_cannot_read_scans_by_is_named_with_its_file(toy, tmp_path, monkeypatch, capsys, change) -> None:
    shutil.copytree(toy.raw, tmp_path / "raw", symlinks=True)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path))
    path = tmp_path / "raw" / "Dataset301_Toy" / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert plan_and_preprocess.main(["-d", "301", "-np", "1", "--no-pp"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    what = "file_ending must be text" if "file_ending" in change else "nnU-Net has no reader for overwrite_image_reader"
    assert len(errors) == 1 and f"{path}: {what}" in errors[0]


@pytest.mark.parametrize("damage", ["cut short", "of another program", "a folder", "of other numbers"])
def test_a_cache_that_cannot_be_read_or_written_is_done_without(toy, tmp_path, monkeypatch, capsys, damage) -> None:
    shutil.copytree(toy.preprocessed, tmp_path / "preprocessed")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    folder = tmp_path / "preprocessed" / "Dataset301_Toy"
    cache = folder / "audit_coarse_copies.npz"
    cache.unlink(missing_ok=True)
    assert audit.main(["301"]) == 0
    expected, whole = capsys.readouterr().out, cache.read_bytes()
    cache.unlink()
    if damage == "a folder":
        cache.mkdir()
    elif damage == "of other numbers":
        np.savez(cache.open("wb"), keys=np.array(["a"]), copies=np.array([1.0]))
    else:
        cache.write_bytes(whole[: len(whole) // 2] if damage == "cut short" else b"text")
    assert audit.main(["301"]) == 0
    assert capsys.readouterr().out == expected
    assert cache.is_dir() if damage == "a folder" else cache.read_bytes() == whole


def test_a_flip_of_a_bit_in_the_cache_gives_the_same_copies_or_none(tmp_path: Path) -> None:
    cache = tmp_path / "cache.npz"
    copies = np.random.default_rng(0).normal(size=(3, 500)).astype(np.float16)
    with cache.open("wb") as file:
        np.savez(file, keys=np.array(["a", "b", "c"]), copies=copies)
    whole, refused = cache.read_bytes(), 0
    for bit in np.random.default_rng(1).integers(0, 8 * len(whole), 300).tolist():
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        cache.write_bytes(changed)
        known = _read_cache(cache)
        assert not known or np.array_equal([known[key] for key in "abc"], copies)
        refused += not known
    assert refused > 200


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("\x07\x00", "\\x07\\x00"),
        ("\ud800", "\\ud800"),
        ("a\u202eb", "a\\u202eb"),
        ("a\rb", "a\\rb"),
        ("\rhalf done", "\rhalf done"),
        ("Zoë 李明\tx\r\ny\n", "Zoë 李明\tx\r\ny\n"),
    ],
)
def test_text_of_other_people_moves_no_cursor(text: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    @command
    def main(argv: object = None) -> int:
        print(text, end="")
        raise PathsError(text)

    assert printable(text) == shown and main() == 2
    assert capsys.readouterr().out == shown


def test_an_id_with_an_escape_sequence_is_shown_by_its_code(fresh: Workspace, capsys) -> None:
    table = fresh.source / "table.csv"
    table.write_text("subject,path,diagnosis\na\x1b[2Jb,no.nii.gz,AD\n")
    assert import_dataset.main(["7", "Toy", "--table", str(table), "--target", "diagnosis"]) == 2
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert not json.dumps(printed.err).count("\\u001b")
