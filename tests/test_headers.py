"""Headers that leave open how large a head is or which way is left: said, or refused, never guessed."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import toy_brain, write_scan

from adnext_plugin.errors import ImageError
from adnext_plugin.headers import file_doubts
from adnext_plugin.images import read_volume
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.chain import prepare

BRAIN = toy_brain(3, has_hole=False)


def _save(path: Path, sform: np.ndarray | None, qform: np.ndarray | None, pixdim: float | None = None) -> Path:
    """A scan with voxels of 2 mm and these forms; `pixdim` is written over the header's, as by other software."""
    image = nibabel.Nifti1Image(BRAIN, np.diag([2.0, 2.0, 2.0, 1.0]))
    image.set_sform(sform, code=0 if sform is None else 1)
    image.set_qform(qform, code=0 if qform is None else 1)
    image.header.set_zooms((2.0, 2.0, 2.0))
    nibabel.save(image, path)
    if pixdim is not None:
        content = bytearray(path.read_bytes())
        content[80:92] = np.full(3, pixdim, "<f4").tobytes()
        path.write_bytes(content)
    return path


def _diag(*sizes: float) -> np.ndarray:
    return np.diag([*sizes, 1.0])


PLAIN = _diag(2, 2, 2)


@pytest.mark.parametrize(
    ("sform", "qform", "pixdim", "kind", "is_safe", "text"),
    [
        (_diag(2.5, 2.5, 2.5), PLAIN, None, "size", False, "2.5 × 2.5 × 2.5 mm by the sform (used) and of 2 × 2 × 2"),
        (_diag(2, 2, 2.5), None, None, "size", False, "2 × 2 × 2.5 mm by the sform"),
        (_diag(-2, 2, 2), PLAIN, None, "orientation", False, "both LAS (sform, used) and RAS (qform)"),
        (_diag(2, 2, -2), PLAIN, None, "orientation", False, "both RAI (sform, used) and RAS (qform)"),
        (None, None, None, "no-orientation", True, "left and right may be exchanged"),
        (PLAIN, None, 0.0, "pixdim", True, "pixdim says 0 × 0 × 0 mm, so that 2 × 2 × 2 mm were taken from the sform"),
        (None, PLAIN, 0.0, "pixdim", False, "pixdim says 0 × 0 × 0 mm, so that 1 × 1 × 1 mm were taken"),
    ],
)
def test_what_a_header_leaves_open_is_found_and_is_the_same_for_training_and_prediction(
    tmp_path: Path, sform, qform, pixdim: float | None, kind: str, is_safe: bool, text: str
) -> None:
    path = _save(tmp_path / "x.nii", sform, qform, pixdim)
    (doubt,) = read_volume(path).doubts
    assert (doubt.kind, doubt.has_safe_reading) == (kind, is_safe) and text in doubt.text
    assert file_doubts(path) == (doubt,)


def test_a_header_that_agrees_with_itself_is_not_doubted(tmp_path: Path) -> None:
    turn = np.deg2rad(10)
    oblique = PLAIN.copy()
    oblique[:2, :2] = 2 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    # a qform of the scanner and an sform of a rigid alignment are not two sizes, nor two directions
    for sform, qform in ((PLAIN, PLAIN), (oblique, PLAIN), (None, oblique), (_diag(2.00001, 2, 2), None)):
        assert read_volume(_save(tmp_path / "x.nii.gz", sform, qform)).doubts == ()


def test_analyze_files_have_no_orientation_and_freesurfers_may_lack_it(tmp_path: Path) -> None:
    nibabel.save(nibabel.AnalyzeImage(BRAIN, PLAIN), tmp_path / "x.img")
    assert [doubt.kind for doubt in read_volume(tmp_path / "x.img").doubts] == ["no-orientation"]
    image = nibabel.MGHImage(BRAIN, PLAIN)
    nibabel.save(image, tmp_path / "x.mgz")
    assert read_volume(tmp_path / "x.mgz").doubts == ()


def test_a_tilted_head_is_said(tmp_path: Path) -> None:
    turn = np.deg2rad(40)
    tilted = PLAIN.copy()
    tilted[:2, :2] = 2 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    (doubt,) = read_volume(_save(tmp_path / "x.nii.gz", tilted, tilted)).doubts
    assert doubt.kind == "tilted" and doubt.has_safe_reading and "tilted by 40 degrees" in doubt.text


def test_of_complex_voxels_the_magnitude_is_taken_and_said(tmp_path: Path) -> None:
    phase = np.exp(1j * np.linspace(0, 6, BRAIN.size).reshape(BRAIN.shape))
    nibabel.save(nibabel.Nifti1Image((BRAIN * phase).astype(np.complex64), PLAIN), tmp_path / "x.nii.gz")
    volume = read_volume(tmp_path / "x.nii.gz")
    np.testing.assert_allclose(volume.volume_zyx, BRAIN.T, rtol=1e-5)
    assert (
        [doubt.kind for doubt in volume.doubts] == ["complex"] == [d.kind for d in file_doubts(tmp_path / "x.nii.gz")]
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_background_of_nan_is_zero_and_said_and_one_nan_elsewhere_is_refused(tmp_path: Path, dtype: type) -> None:
    masked = np.where(BRAIN == 0, np.nan, BRAIN).astype(dtype)
    path = write_scan(tmp_path / "x.nii.gz", masked)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.volume_zyx, BRAIN.T)
    assert [doubt.kind for doubt in volume.doubts] == ["nan-background"] == [d.kind for d in file_doubts(path)]
    settings = PreprocessingSettings(spacing_mm=(4.0, 4.0, 4.0), input_size_voxels=(20, 20, 20))
    plain = prepare(read_volume(write_scan(tmp_path / "y.nii.gz", BRAIN)), settings)
    np.testing.assert_array_equal(prepare(volume, settings).volume_zyx, plain.volume_zyx)
    spoilt = BRAIN.astype(dtype)
    spoilt[18, 20, 19] = np.nan
    with pytest.raises(ImageError, match="1 NaN or infinite voxels"):
        read_volume(write_scan(path, spoilt))
    masked[18, 20, 19] = np.inf
    with pytest.raises(ImageError, match="1 NaN or infinite voxels"):
        read_volume(write_scan(path, masked))


@pytest.mark.parametrize("shape", [(36, 40, 1), (36, 1, 38), (3, 40, 38)])
def test_a_few_slices_of_a_head_are_refused(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    with pytest.raises(ImageError, match=r"x.nii.gz has .* voxels, a few slices of a head"):
        read_volume(write_scan(tmp_path / "x.nii.gz", BRAIN[: shape[0], : shape[1], : shape[2]]))


@pytest.mark.parametrize("channels", ["RGB", "RGBA"])
def test_colours_are_refused_in_one_line(tmp_path: Path, channels: str) -> None:
    dtype = np.dtype([(name, "u1") for name in channels])
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 8), dtype), PLAIN), tmp_path / "x.nii.gz")
    with pytest.raises(ImageError, match=r"x.nii.gz has colours \(RGB\), not intensities"):
        read_volume(tmp_path / "x.nii.gz")


@pytest.mark.parametrize("name", ["x.mgz", "x.mgh", "x.mnc", "x.par", "x.HEAD", "x.img", "x.nii", "x.nii.gz"])
@pytest.mark.parametrize(
    "content", [b"", b"CDF\x01" + bytes(40), b"\x89HDF\r\n\x1a\n" + bytes(64), b"# === DATA", b"x" * 999]
)
def test_whatever_a_reader_raises_about_a_damaged_file_is_one_line_that_names_it(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageError, match=path.name) as caught:
        read_volume(path)
    assert "\n" not in str(caught.value)


def test_damaged_bodies_of_freesurfer_and_afni_files_are_one_line(tmp_path: Path) -> None:
    nibabel.save(nibabel.MGHImage(BRAIN, PLAIN), tmp_path / "x.mgz")
    content = (tmp_path / "x.mgz").read_bytes()
    for kept in (30, 100, len(content) // 2):
        (tmp_path / "x.mgz").write_bytes(content[:kept])
        with pytest.raises(ImageError, match=r"x\.mgz cannot be read"):
            read_volume(tmp_path / "x.mgz")
    (tmp_path / "x.HEAD").write_text("type = string-attribute\nname = BYTEORDER_STRING\ncount = 9\n'LSB_FIRST~\n")
    with pytest.raises(ImageError, match=r"x\.HEAD cannot be read"):
        read_volume(tmp_path / "x.HEAD")


@pytest.mark.parametrize(
    ("link", "text", "message"),
    [
        (".git/annex/objects/Xx/9z/MD5E-s1--1.nii.gz", "", "git-annex .*: datalad get .*x.nii"),
        ("elsewhere.nii.gz", "", "is a link to elsewhere.nii.gz, which does not exist"),
        ("", "/annex/objects/MD5E-s123--abc.nii.gz\n", "pointer of git-annex .*: datalad get"),
        ("", "version https://git-lfs.github.com/spec/v1\noid x\n", "Git LFS .*: git lfs pull"),
    ],
)
def test_a_file_that_was_not_fetched_is_named_with_the_command_that_fetches_it(
    tmp_path: Path, link: str, text: str, message: str
) -> None:
    path = tmp_path / "x.nii.gz"
    if link:
        path.symlink_to(link)
    else:
        path.write_text(text)
    with pytest.raises(ImageError, match=message):
        read_volume(path)


def test_real_scans_are_not_doubted(real_data: Path) -> None:
    for folder in ("oasis1/images", "ixi/brain", "ixi/head", "bids_ds000011/sub-01/anat"):
        path = sorted((real_data / folder).glob("*.nii.gz"))[0]
        assert [doubt.kind for doubt in read_volume(path).doubts if not doubt.has_safe_reading] == [], path
