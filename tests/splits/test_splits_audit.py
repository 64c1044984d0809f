"""The audit finds the same person under other ids and other images, and leaves strangers alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import toy_brain

from adnext_plugin.images import Volume, read_volume
from adnext_plugin.people import spellings
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.chain import prepare
from adnext_plugin.project_key import digests, project_key
from adnext_plugin.splits.audit import check_corpus, check_files, check_ids, check_images, check_statistics
from adnext_plugin.splits.likeness import cached_coarse_copies, coarse_copy, find_resemblance
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


def test_a_copy_of_a_toy_brain_is_found_and_strangers_are_not() -> None:
    settings = PreprocessingSettings(spacing_mm=(2.5, 2.5, 2.5), input_size_voxels=(32, 32, 32))
    generator = np.random.default_rng(0)
    brains = [toy_brain(seed, has_hole=seed % 2 == 1) for seed in range(30)]
    copy = np.where(brains[3] != 0, 1.3 * brains[3] + generator.normal(0, 2, brains[3].shape), 0)
    vectors = []
    for brain in [*brains, copy]:
        volume = Volume(volume_zyx=np.ascontiguousarray(brain.T), affine=np.diag([2.0, 2.0, 2.0, 1.0]))
        vectors.append(coarse_copy(prepare(volume, settings).volume_zyx, settings.spacing_mm))
    found = find_resemblance(np.stack(vectors), [str(index) for index in range(31)])
    assert [pair[:2] for pair in found.pairs] == [(3, 30)]
    subjects = _subjects(*(f"s{index}" for index in range(31)))
    cases = subjects["case_id"].tolist()
    splits = [{"train": cases[:10], "selection": [], "val": cases[10:]}]
    assert check_images(subjects, found, splits).leaks[0].startswith("c3 and c30 look like one person (")
    # known to be one person, it is no finding
    assert not find_resemblance(np.stack(vectors), [*(str(index) for index in range(30)), "3"]).pairs


def test_coarse_copies_are_made_again_only_where_a_file_has_changed(tmp_path: Path) -> None:
    volumes = np.random.default_rng(0).normal(size=(3, 12, 12, 12))
    files = [tmp_path / f"{index}.b2nd" for index in range(3)]
    for index, path in enumerate(files):
        path.write_bytes(bytes([index]))
    read = []

    def read_volume_zyx(index: int) -> np.ndarray:
        read.append(index)
        return volumes[index]

    def get() -> np.ndarray:
        return cached_coarse_copies(files, read_volume_zyx, (2.0, 2.0, 2.0), tmp_path / "cache.npz")

    first = get()
    assert sorted(read) == [0, 1, 2]
    np.testing.assert_array_equal(get(), first)
    assert len(read) == 3
    files[1].write_bytes(b"new")
    volumes[1] += np.arange(12)
    assert np.abs(get() - first).max(axis=1).astype(bool).tolist() == [False, True, False]
    assert read[3:] == [1]
    (tmp_path / "cache.npz").write_bytes(b"damaged")
    np.testing.assert_allclose(np.linalg.norm(get().astype(float), axis=1), 1, atol=1e-3)


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
    others = [path for path in paths if path.name[:9] not in repeated][::5]
    chosen = [path for path in paths if path.name[:9] in repeated] + others
    vectors = [coarse_copy(prepare(read_volume(path), COARSE).volume_zyx, COARSE.spacing_mm) for path in chosen]
    found = find_resemblance(np.stack(vectors), [f"scrambled{index}" for index in range(len(chosen))])
    pairs = [(chosen[first].name[:9], chosen[second].name[:9]) for first, second, _ in found.pairs]
    assert len(repeated) == 20
    assert sorted(pairs) == sorted((person, person) for person in repeated)
