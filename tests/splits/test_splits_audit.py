"""The audit finds the same person under other ids and other images, and leaves strangers alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import toy_brain
from scipy import ndimage

from adnext_plugin.images import Volume, file_sha256, read_volume
from adnext_plugin.people import spellings
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.chain import prepare
from adnext_plugin.project_key import digests, project_key
from adnext_plugin.splits.audit import check_corpus, check_files, check_ids, check_images, check_statistics
from adnext_plugin.splits.likeness import cached_coarse_copies, coarse_copy, find_resemblance, mirror_images
from adnext_plugin.splits.pose import interior
from adnext_plugin.training.corpus import describe_corpus, joined

COARSE = PreprocessingSettings(spacing_mm=(4.0, 4.0, 4.0), input_size_voxels=(40, 48, 40))


def _subjects(*ids: str, **columns: list) -> pd.DataFrame:
    return pd.DataFrame({"case_id": [f"c{index}" for index in range(len(ids))], "subject_id": ids, **columns})


def test_people_on_both_sides_of_a_fold_are_found_under_other_ids() -> None:
    subjects = _subjects("123_S_4567", "sub-ADNI123S4567", "OAS1_0061_MR1", "OAS1_0061_MR2", "x")
    fold = {"train": ["c0"], "selection": ["c2", "c3"], "val": ["c1", "c4"]}
    check = check_ids(subjects, [fold])
    assert check.leaks == ("123_S_4567 and sub-ADNI123S4567 is one person, in train and val of fold 0",)
    assert check.remarks == ("OAS1_0061_MR1 and OAS1_0061_MR2 is one person",)


def test_one_file_under_two_subjects_is_found() -> None:
    subjects = _subjects("a", "b", "b", "c", image_sha256=["1", "1", "2", ""])
    check = check_files(subjects, [{"train": ["c0"], "selection": ["c2"], "val": ["c1", "c3"]}])
    assert check.leaks == ("c0, c1 are one file, in train and val of fold 0",)
    assert not check_files(subjects, []).leaks


def _toy_copies(*brains: np.ndarray) -> np.ndarray:
    settings = PreprocessingSettings(spacing_mm=(2.5, 2.5, 2.5), input_size_voxels=(32, 32, 32))
    vectors = []
    for brain in brains:
        volume = Volume(volume_zyx=np.ascontiguousarray(brain.T), affine=np.diag([2.0, 2.0, 2.0, 1.0]))
        vectors.append(coarse_copy(prepare(volume, settings).volume_zyx, settings.spacing_mm))
    return np.stack(vectors)


def test_copies_of_a_toy_brain_are_found_also_mirrored_and_strangers_are_not() -> None:
    generator = np.random.default_rng(0)
    brains = [toy_brain(seed, has_hole=seed % 2 == 1) for seed in range(30)]
    copy = np.where(brains[3] != 0, 1.3 * brains[3] + generator.normal(0, 2, brains[3].shape), 0)
    vectors = _toy_copies(*brains, copy, brains[8][::-1])
    found = find_resemblance(vectors, [str(index) for index in range(32)])
    assert sorted((pair.first, pair.second, pair.is_mirrored) for pair in found.pairs) == [
        (3, 30, False),
        (8, 31, True),
    ]
    subjects = _subjects(*(f"s{index}" for index in range(32)))
    cases = subjects["case_id"].tolist()
    check = check_images(subjects, found, [{"train": cases[:10], "selection": [], "val": cases[10:]}])
    said = sorted(check.leaks)
    assert said[0].startswith("c3 and c30 look like one person (")
    assert said[1].startswith("c31 and c8 look like one person, the one as a mirrored copy of the other (")
    assert said[1].endswith("in val and train of fold 0")
    # known to be one person, it is no finding
    known = [*(str(index) for index in range(30)), "3", "8"]
    assert not find_resemblance(vectors, known).pairs


def test_empty_scans_and_scans_of_nothing_in_common_are_like_nobody() -> None:
    assert np.isnan(coarse_copy(np.zeros((20, 20, 20)), (2.0, 2.0, 2.0))).all()
    vectors = _toy_copies(*(toy_brain(seed, has_hole=False) for seed in range(6)))
    vectors[5] = np.nan
    ids = [str(index) for index in range(6)]
    assert not find_resemblance(vectors, ids).pairs
    assert not find_resemblance(np.full_like(vectors, np.nan), ids).pairs


def test_mirroring_exchanges_left_and_right_and_twice_is_nothing() -> None:
    region = interior()
    x_of_voxel = np.broadcast_to(np.arange(region.shape[2], dtype=float), region.shape)[region][None]
    np.testing.assert_array_equal(mirror_images(x_of_voxel), region.shape[2] - 1 - x_of_voxel)
    anything = np.random.default_rng(0).normal(size=(2, x_of_voxel.shape[1]))
    np.testing.assert_array_equal(mirror_images(mirror_images(anything)), anything)


def test_coarse_copies_are_made_again_only_where_a_file_has_changed(tmp_path: Path) -> None:
    volumes = np.random.default_rng(0).normal(size=(3, 24, 24, 24))
    files = [tmp_path / f"{index}.b2nd" for index in range(3)]
    for index, path in enumerate(files):
        path.write_bytes(bytes([index]))
    read = []

    def read_volume_zyx(index: int) -> np.ndarray:
        read.append(index)
        return volumes[index]

    def get() -> np.ndarray:
        return cached_coarse_copies(
            [file_sha256(file) for file in files], read_volume_zyx, (2.0, 2.0, 2.0), tmp_path / "cache.npz"
        )

    first = get()
    assert sorted(read) == [0, 1, 2]
    np.testing.assert_array_equal(get(), first)
    assert len(read) == 3
    files[1].write_bytes(b"new")
    volumes[1] = volumes[1][::-1]
    assert [np.array_equal(one, other, equal_nan=True) for one, other in zip(get(), first, strict=True)] == [
        True,
        False,
        True,
    ]
    assert read[3:] == [1]
    (tmp_path / "cache.npz").write_bytes(b"damaged")
    assert len(get()) == 3 and np.isfinite(get()).any(axis=1).all()


def test_people_of_the_pretraining_data_are_found_by_id_spelling_and_image(tmp_path: Path) -> None:
    seen = _subjects("sub-ADNI123S4567", "b", "c", image_sha256=["1", "2", "3"])
    corpus = describe_corpus(seen, "Dataset001_Corpus", tmp_path)
    key = project_key(tmp_path)
    subjects = _subjects("123_S_4567", "b", "d", "e", image_sha256=["7", "8", "3", "9"])

    def check(key_digest: str):
        return check_corpus(subjects, corpus, lambda name: digests([name], key)[0], key_digest, "weights.pth")

    assert [line.split(" is held out")[0] for line in check(corpus.key_digest).leaks] == ["123_S_4567", "b", "d"]
    other = check("of another project")
    assert not other.leaks and "key of another project" in other.looked_at
    assert "123_S_4567" in spellings("sub-ADNI123S4567")


def test_who_an_encoder_saw_is_handed_on_to_what_begins_with_it(tmp_path: Path) -> None:
    first = describe_corpus(_subjects("a", "b", image_sha256=["1", "2"]), "Dataset001_Corpus", tmp_path)
    second = describe_corpus(_subjects("b", "c", image_sha256=["2", "3"]), "Dataset002_Task", tmp_path)
    both = joined(second, first)
    everyone = describe_corpus(_subjects("a", "b", "c", image_sha256=["1", "2", "3"]), "", tmp_path)
    assert both == replace(everyone, datasets=("Dataset001_Corpus", "Dataset002_Task"))
    elsewhere = describe_corpus(_subjects("a"), "Dataset001_Corpus", tmp_path / "another")
    for unknown in (None, elsewhere):
        assert joined(second, unknown) == replace(second, complete=False)
    assert not joined(first, joined(second, None)).complete


def test_a_scale_from_outside_the_training_part_is_found() -> None:
    stored = {"fold_0": {"mean of age": 70.0}, "fold_1": {"mean of age": 71.0}}
    assert not check_statistics(stored, stored).leaks
    assert len(check_statistics(stored, {**stored, "fold_1": {"mean of age": 71.1}}).leaks) == 1


def test_all_repeated_sessions_of_oasis_are_found_under_scrambled_ids(real_data: Path) -> None:
    paths = sorted((real_data / "oasis1" / "images").glob("*.nii.gz"))
    repeated = {path.name[:9] for path in paths if "_MR2" in path.name}
    others = [path for path in paths if path.name[:9] not in repeated][::10]
    chosen = [path for path in paths if path.name[:9] in repeated] + others
    vectors = [coarse_copy(prepare(read_volume(path), COARSE).volume_zyx, COARSE.spacing_mm) for path in chosen]
    found = find_resemblance(np.stack(vectors), [f"scrambled{index}" for index in range(len(chosen))])
    pairs = [(chosen[pair.first].name[:9], chosen[pair.second].name[:9]) for pair in found.pairs]
    assert len(repeated) == 20 and not any(pair.is_mirrored for pair in found.pairs)
    assert sorted(pairs) == sorted((person, person) for person in repeated)


def test_mirrored_turned_and_eroded_copies_of_real_brains_are_found_and_no_stranger(real_data: Path) -> None:
    people = sorted((real_data / "ixi" / "brain").glob("*.nii.gz"))[:40]
    scans = [read_volume(path) for path in people]
    copies, expected = [], set()
    for person in range(4):
        turned = _turned(scans[person], 6.0)
        changed = (turned, _mirrored(scans[person]), _mirrored(turned), _eroded(scans[person]))
        for number, copy in enumerate(changed):
            expected.add((person, len(scans) + len(copies), number in (1, 2)))
            copies.append(copy)
    volumes = [prepare(scan, COARSE).volume_zyx for scan in (*scans, *copies)]
    vectors = np.stack([coarse_copy(volume, COARSE.spacing_mm) for volume in volumes])
    # copies of one person are known to be that person's, but not whose
    ids = [*(str(index) for index in range(40)), *(f"copy {index // 4}" for index in range(16))]
    found = find_resemblance(vectors, ids)
    assert {(pair.first, pair.second, pair.is_mirrored) for pair in found.pairs} == expected


def _turned(scan: Volume, degrees: float) -> Volume:
    volume_zyx = ndimage.rotate(np.pad(scan.volume_zyx, 6), degrees, axes=(0, 2), reshape=False, order=1)
    return replace(scan, volume_zyx=np.where(volume_zyx > 1, volume_zyx, 0))


def _mirrored(scan: Volume) -> Volume:
    across = 2 - int(np.argmax(np.abs(scan.affine[0, :3])))
    return replace(scan, volume_zyx=np.ascontiguousarray(np.flip(scan.volume_zyx, across)))


def _eroded(scan: Volume) -> Volume:
    return replace(scan, volume_zyx=np.where(ndimage.binary_erosion(scan.volume_zyx > 0), scan.volume_zyx, 0))
