"""Images of a session are moved to the first: by how much is known, failures are named, nothing is done twice."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from conftest import Workspace
from scipy.spatial.transform import Rotation

from adnext_plugin.cli import import_dataset
from adnext_plugin.errors import ImageError
from adnext_plugin.files import read_json
from adnext_plugin.images import Volume, looked_up, read_volume
from adnext_plugin.preprocessing.anatomy.template import GRID, mni152
from adnext_plugin.preprocessing.coregistration import CoregistrationJob, Fixed, coregister, moved_to

STEP = 2  # every other voxel of the template's grid: 4 mm
AFFINE = GRID @ np.diag([STEP, STEP, STEP, 1.0])


def _pair() -> tuple[Volume, np.ndarray]:
    """A T1-weighted brain, and one of other contrast in its place."""
    template = mni152()
    t1 = np.where(template.mask, 30 + 32 * template.grey + 70 * template.white, 0)
    flair = np.where(template.mask, 10 + 90 * template.grey + 60 * template.white, 0)
    small = (slice(None, None, STEP),) * 3
    return Volume(volume_zyx=t1[small].astype(np.float32), affine=AFFINE), flair.astype(np.float32)


def _move(degrees: tuple[float, float, float], shift_mm: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), shift_mm
    return matrix


def _moved(flair_zyx: np.ndarray, moving_from_first_mm: np.ndarray) -> Volume:
    """The other image as taken after the head has moved, on another grid of 3 × 3 × 4 mm."""
    affine = np.array([[-3.0, 0, 0, 95], [0, 3, 0, -130], [0, 0, 4, -80], [0, 0, 0, 1]])
    voxel_from_voxel = np.linalg.inv(GRID) @ np.linalg.inv(moving_from_first_mm) @ affine
    return Volume(volume_zyx=looked_up(flair_zyx, voxel_from_voxel, (45, 78, 64)), affine=affine)


def test_a_head_that_moved_between_two_images_is_moved_back() -> None:
    first, flair_zyx = _pair()
    true = _move((6, -4, 8), (7, -5, 6))
    moved_zyx, move = moved_to(Fixed(volume=first), _moved(flair_zyx, true))
    expected = flair_zyx[(slice(None, None, STEP),) * 3]
    assert moved_zyx.shape == first.volume_zyx.shape
    assert np.corrcoef(moved_zyx.ravel(), expected.ravel())[0, 1] > 0.97
    assert move.turn_degrees == pytest.approx(np.degrees(Rotation.from_matrix(true[:3, :3]).magnitude()), abs=1)
    assert move.likeness > move.likeness_before + 0.02 and move.shared > 0.95
    again, same = moved_to(Fixed(volume=first), _moved(flair_zyx, true))
    np.testing.assert_array_equal(again, moved_zyx)
    assert same == move


def test_an_image_that_shows_little_of_the_head_is_refused() -> None:
    first, flair_zyx = _pair()
    flair_zyx[30:] = 0
    with pytest.raises(ImageError, match=r"it shows \d+% of the head, of 50% at least"):
        moved_to(Fixed(volume=first), Volume(volume_zyx=flair_zyx, affine=GRID))


def _write(path: Path, volume: Volume) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume.volume_zyx.T, volume.affine), path)
    return path


def test_an_import_moves_images_once_and_shows_how(fresh: Workspace, capsys) -> None:
    first, flair_zyx = _pair()
    rows = ["participant_id"]
    for person in range(2):
        noise = np.random.default_rng(person).normal(1, 0.02, first.volume_zyx.shape)
        own = Volume(volume_zyx=(first.volume_zyx * noise).astype(np.float32), affine=first.affine)
        folder = fresh.source / f"sub-{person}" / "anat"
        _write(folder / f"sub-{person}_T1w.nii.gz", own)
        _write(folder / f"sub-{person}_FLAIR.nii.gz", _moved(flair_zyx * (1 + person), _move((2, 0, -3), (4, 3, 0))))
        rows.append(f"sub-{person}")
    (fresh.source / "participants.tsv").write_text("\n".join(rows) + "\n")
    words = ["7", "Two", "--bids", str(fresh.source), "--unlabelled", "--channel", "T1=T1w", "FLAIR", "-np", "1"]
    assert import_dataset.main(words) == 2
    assert "import them with --coregister" in capsys.readouterr().err
    assert import_dataset.main([*words, "--coregister"]) == 0
    assert "2 images moved to the first of their case, 0 of them before" in capsys.readouterr().out
    dataset = fresh.raw / "Dataset007_Two"
    moved = read_volume(dataset / "imagesTr" / "sub-0_0001.nii.gz")
    np.testing.assert_allclose(moved.affine, AFFINE)
    assert "data:image/jpeg" in (dataset / "coregistration" / "coregistration.html").read_text()
    table = (dataset / "coregistration" / "coregistration.csv").read_text().splitlines()
    assert table[0].startswith("case_id,channel,turn_degrees,shift_mm,likeness") and len(table) == 3
    # a damaged file of the cache is made again, the other is taken as it is
    cache = sorted((fresh.raw / "coregistered").glob("*.nii.gz"))
    assert len(cache) == 2
    before_zyx = read_volume(cache[0]).volume_zyx
    cache[0].write_bytes(cache[0].read_bytes()[:100])
    assert import_dataset.main([*words, "--coregister", "--overwrite"]) == 0
    assert "2 images moved to the first of their case, 1 of them before" in capsys.readouterr().out
    np.testing.assert_array_equal(read_volume(cache[0]).volume_zyx, before_zyx)
    assert read_json(dataset / "dataset.json")["channel_names"] == {"0": "T1", "1": "FLAIR"}


def test_images_of_one_case_are_moved_in_one_go_and_each_that_cannot_be_is_named(tmp_path: Path) -> None:
    first, flair_zyx = _pair()
    half_zyx = flair_zyx.copy()
    half_zyx[30:] = 0
    images = {
        "T1": first,
        "FLAIR": _moved(flair_zyx, _move((2, 0, -3), (4, 3, 0))),
        "T2": Volume(volume_zyx=half_zyx, affine=GRID),
        "PD": Volume(volume_zyx=half_zyx * 2, affine=GRID),
    }
    path = {name: _write(tmp_path / f"{name}.nii.gz", volume) for name, volume in images.items()}
    folder = tmp_path / "moved"
    folder.mkdir()
    job = CoregistrationJob(first=path["T1"], moving=(path["T2"], path["FLAIR"], path["PD"]), folder=folder)
    with pytest.raises(ImageError) as refused:
        coregister(job)
    assert [line.split(" cannot be moved to ")[0] for line in str(refused.value).splitlines()] == [
        str(path["T2"]),
        str(path["PD"]),
    ]
    # the one that could be is there, with its picture; a picture that is lost is drawn again
    job = replace(job, moving=(path["FLAIR"],))
    (found,) = coregister(job)
    assert not found.is_new
    picture = found.picture.read_bytes()
    found.picture.unlink()
    (again,) = coregister(job)
    assert again.is_new and again.move == found.move and again.picture.read_bytes() == picture


def test_one_image_needs_no_options_of_several(fresh: Workspace, capsys) -> None:
    assert import_dataset.main(["7", "One", "--bids", str(fresh.source), "--unlabelled", "--coregister"]) == 2
    assert "--coregister and --missing-channel are of several images" in capsys.readouterr().err
