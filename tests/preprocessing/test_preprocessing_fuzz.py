"""Whatever is in a scan's file, it is prepared or refused in one line that names it: no traceback, no hang."""

import gzip
import struct
import tracemalloc
from datetime import timedelta
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adnext_plugin.cli import import_dataset, plan_and_preprocess
from adnext_plugin.errors import ImageError
from adnext_plugin.images import read_volume
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.brains.stripped import reason_to_leave_alone
from adnext_plugin.preprocessing.chain import prepare

SMALL = PreprocessingSettings(input_size_voxels=(16, 16, 16), spacing_mm=(4.0, 4.0, 4.0))
NO_HANG = settings(
    max_examples=300, deadline=timedelta(seconds=20), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# fields of the NIfTI-1 header: position, type
DIM, DATATYPE, PIXDIM, OFFSET, SLOPE, SFORM_CODE, SFORM = (
    *((40, "8h"), (70, "2h"), (76, "8f"), (108, "f"), (112, "2f")),
    *((254, "h"), (280, "12f")),
)
NAN, INF = float("nan"), float("inf")


def _scan() -> bytes:
    volume = np.zeros((12, 14, 13), dtype=np.int16)
    volume[2:-2, 3:-3, 2:-2] = np.random.default_rng(0).integers(50, 200, (8, 8, 9))
    return nibabel.Nifti1Image(volume, np.diag([2.0, 2.0, 2.0, 1.0])).to_bytes()


GOOD = _scan()


def _with(field: tuple[int, str], *values: float) -> bytes:
    content = bytearray(GOOD)
    struct.pack_into(f"<{field[1]}", content, field[0], *values)
    return bytes(content)


def _float_scan(value: float) -> bytes:
    volume = np.ones((6, 6, 6), dtype=np.float32)
    volume[3, 3, 3] = value
    return nibabel.Nifti1Image(volume, np.eye(4)).to_bytes()


def _refused(path: Path, content: bytes) -> bool:
    """Whether the scan is refused; if so, as it must be."""
    path.write_bytes(content)
    try:
        volume = read_volume(path)
        reason_to_leave_alone(volume)
    except ImageError as error:
        assert str(path) in str(error) and "\n" not in str(error)
        return True
    try:
        prepare(volume, SMALL)
    except ImageError as error:
        assert "\n" not in str(error)
        return True
    return False


@NO_HANG
@given(length=st.integers(0, len(GOOD) - 1))
def test_a_file_cut_short(tmp_path, length: int) -> None:
    assert _refused(tmp_path / "x.nii", GOOD[:length])
    assert _refused(tmp_path / "x.nii.gz", gzip.compress(GOOD[:length], 1))
    whole = gzip.compress(GOOD, 1)
    assert _refused(tmp_path / "x.nii.gz", whole[: min(length, len(whole) - 32)])  # at its very end no voxel is lost


@NO_HANG
@given(
    bits=st.lists(st.integers(0, 352 * 8 - 1), min_size=1, max_size=8),
    suffix=st.sampled_from([".nii", ".nii.gz"]),
)
def test_flipped_bits_in_the_header(tmp_path, bits: list[int], suffix: str) -> None:
    content = bytearray(GOOD)
    for bit in bits:
        content[bit // 8] ^= 1 << bit % 8
    _refused(tmp_path / f"x{suffix}", gzip.compress(content, 1) if suffix == ".nii.gz" else bytes(content))


@NO_HANG
@given(position=st.integers(0, 5000), value=st.integers(0, 255))
def test_a_changed_byte_in_a_compressed_file(tmp_path, position: int, value: int) -> None:
    content = bytearray(gzip.compress(GOOD, 1))
    content[position % len(content)] = value
    _refused(tmp_path / "x.nii.gz", bytes(content))


DAMAGED = {
    "empty": b"",
    "text": b"hello" * 100,
    "4d": nibabel.Nifti1Image(np.random.default_rng(0).random((4, 4, 4, 3), np.float32), np.eye(4)).to_bytes(),
    "2d": _with(DIM, 2, 12, 14, 1, 1, 1, 1, 1),
    "nothing_in_it": _with(DIM, 3, 0, 14, 13, 1, 1, 1, 1),
    "negative_size": _with(DIM, 3, -12, 14, 13, 1, 1, 1, 1),
    "more_than_the_file": _with(DIM, 3, 120, 140, 130, 1, 1, 1, 1),
    "gigabytes": _with(DIM, 3, 1200, 1000, 800, 1, 1, 1, 1),
    "terabytes": _with(DIM, 3, 32767, 32767, 32767, 1, 1, 1, 1),
    "more_than_can_be_counted": _with(DIM, 7, *[32767] * 7),
    "colours": _with(DATATYPE, 128, 24),
    "complex": _with(DATATYPE, 1792, 128),
    "unknown_type": _with(DATATYPE, 99, 16),
    "voxels_beyond_the_end": _with(OFFSET, 1e9),
    "voxels_at_nan": _with(OFFSET, NAN),
    "slope_infinite": _with(SLOPE, 1e38, 0),
    "spacing_astronomical": _with(SFORM, 1e30, 0, 0, 0, 0, 1e30, 0, 0, 0, 0, 1e30, 0),
    "spacing_microscopic": _with(SFORM, 1e-5, 0, 0, 0, 0, 1e5, 0, 0, 0, 0, 1, 0),
    "one_axis_of_kilometres": _with(SFORM, 1e6, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0),
    "affine_nan": _with(SFORM, NAN, *[0] * 11),
    "affine_flat": _with(SFORM, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0),
    "voxel_nan": _float_scan(NAN),
    "voxel_infinite": _float_scan(INF),
    "constant": _float_scan(1),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_refused_without_much_memory(tmp_path, name: str, suffix: str) -> None:
    content = gzip.compress(DAMAGED[name], 1) if suffix == ".nii.gz" else DAMAGED[name]
    tracemalloc.start()
    refused = _refused(tmp_path / f"{name}{suffix}", content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused and peak < 20 << 20


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("plain.nii.gz", GOOD),
        ("gzip.nii", gzip.compress(GOOD)),
        ("twice.nii.gz", gzip.compress(gzip.compress(GOOD))),
        ("garbage.nii.gz", gzip.compress(bytes(range(256)) * 20)),
        ("dicom.nii", bytes(128) + b"DICM" + bytes(1000)),
    ],
)
def test_a_file_that_is_something_else_than_its_name_says(tmp_path, name: str, content: bytes) -> None:
    assert _refused(tmp_path / name, content)


def test_the_commands_name_each_damaged_file_in_one_line(fresh, capfd) -> None:
    rows = ["subject,path", *(f"s{index},x{index}.nii.gz" for index in range(len(DAMAGED) + 2))]
    (fresh.source / "table.csv").write_text("\n".join(rows) + "\n")
    for index in range(len(DAMAGED) + 2):
        volume = np.random.default_rng(index).integers(1, 200, (8, 9, 10)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), fresh.source / f"x{index}.nii.gz")
    arguments = ["7", "Toy", "--table", str(fresh.source / "table.csv"), "--unlabelled", "-np", "1"]
    assert import_dataset.main(arguments) == 0
    for index, content in enumerate(DAMAGED.values()):  # the imported dataset links to them
        (fresh.source / f"x{index}.nii.gz").write_bytes(gzip.compress(content, 1))
    capfd.readouterr()
    assert import_dataset.main([*arguments, "--overwrite"]) == 2
    assert _named(capfd.readouterr().err, "x{}.nii.gz") == len(DAMAGED)
    options = ["-d", "7", "-np", "1", "--no-splits", "--input-size", "16", "16", "16"]
    assert plan_and_preprocess.main(options) == 2
    captured = capfd.readouterr()
    assert "2 cases prepared" in captured.out
    assert _named(captured.err, "s{}_0000.nii.gz") == len(DAMAGED) + 1  # and how many they are


def _named(errors: str, file: str) -> int:
    """How many errors there are, after making sure that each damaged file has one, and that nothing else is said."""
    lines = [line for line in errors.split("\n") if line and "case/s" not in line]
    assert all(line.startswith("error: ") for line in lines), lines
    for index in range(len(DAMAGED)):
        assert sum(file.format(index) in line for line in lines) == 1
    return len(lines)
