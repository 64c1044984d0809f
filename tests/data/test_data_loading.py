"""The order of batches and the augmentation depend on seed, epoch and case alone."""

import pickle

import blosc2
import numpy as np
import pytest
import torch

from adnext_plugin.data.augmentation import Augmentation
from adnext_plugin.data.centre import CentreCrop
from adnext_plugin.data.loading import CaseDataset, EpochLoader, EpochSampler
from adnext_plugin.data.resident import ResidentLoader, fits
from adnext_plugin.data.store import CaseStore
from adnext_plugin.errors import PathsError, SettingsError, UnknownNameError
from adnext_plugin.registry import AUGMENTATIONS, registered_names

SIZE = (6, 8, 8)
CASES = [f"case{index}" for index in range(7)]


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for case in CASES:
        image = generator.normal(size=(1, *SIZE)).astype(np.float16)
        blosc2.asarray(image, urlpath=str(tmp_path / f"{case}.b2nd"), mode="w")
    return tmp_path


def _epochs(folder, *, workers: int, in_memory: bool, epochs: tuple[int, ...]) -> list[torch.Tensor]:
    store = CaseStore(folder, CASES, SIZE, is_own=False)
    if in_memory:
        assert store.keep_in_memory()
    targets, covariates = np.array([0, 1, 0, 1, 0, 1, 0]), np.zeros((len(CASES), 0), dtype=np.float32)
    dataset = CaseDataset(store, targets, covariates, Augmentation("paper", SIZE), seed=3)
    loader = EpochLoader(dataset, EpochSampler(len(CASES), 2, shuffle=True, seed=3), workers=workers)
    images = []
    for epoch in epochs:
        loader.start(epoch)
        images += [next(loader).images for _ in range(len(loader))]
    return images


def test_an_epoch_is_the_same_from_any_number_of_workers_from_disk_or_memory_and_after_a_restart(folder) -> None:
    straight = _epochs(folder, workers=0, in_memory=True, epochs=(0, 1))
    with_workers = _epochs(folder, workers=2, in_memory=False, epochs=(0, 1))
    restarted = _epochs(folder, workers=0, in_memory=False, epochs=(1,))
    assert all(torch.equal(a, b) for a, b in zip(straight, with_workers, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(straight[3:], restarted, strict=True))
    assert not torch.equal(straight[0], straight[3])


class _OneIsRefused:
    """Stands in for a change of images; of the third case it raises an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        if float(image_czyx[0, 0, 0, 0]) == 2.0:
            raise self.error
        return image_czyx


def _refused(folder, error: Exception, workers: int) -> tuple[list[list[int]], Exception]:
    """Cases served before the third, in two epochs, and the error that ends each."""
    for index, case in enumerate(CASES):
        image = np.full((1, *SIZE), index, dtype=np.float16)
        blosc2.asarray(image, urlpath=str(folder / f"{case}.b2nd"), mode="w")
    store = CaseStore(folder, CASES, SIZE, is_own=False)
    dataset = CaseDataset(store, np.arange(7), np.zeros((7, 0), dtype=np.float32), _OneIsRefused(error), seed=0)
    loader = EpochLoader(dataset, EpochSampler(7, 2, shuffle=False), workers=workers)
    served: list[list[int]] = []
    for _ in range(2):
        with pytest.raises(type(error)) as raised:
            for batch in loader.batches(0):
                served.append(batch.indices.tolist())
    return served, raised.value


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_a_loading_process_is_what_it_is_without_one(folder, workers: int) -> None:
    error = PathsError("case2.b2nd is damaged;\nprepare it again")
    error.add_note("of the third case")
    served, raised = _refused(folder, error, workers)
    assert served == [[0, 1]] * 2
    assert (type(raised), raised.args, raised.__notes__) == (PathsError, error.args, ["of the third case"])
    # of a fault of ours, where it arose is told too
    _, raised = _refused(folder, ZeroDivisionError("in our code"), workers)
    assert ("Caught ZeroDivisionError in DataLoader worker process" in str(raised)) == (workers > 0)


def test_unshuffled_loading_serves_every_case_once_unchanged(folder) -> None:
    store = CaseStore(folder, CASES, SIZE, is_own=False)
    dataset = CaseDataset(store, np.arange(7), np.zeros((7, 0), dtype=np.float32), None, seed=0)
    loader = EpochLoader(dataset, EpochSampler(7, 3, shuffle=False))
    loader.start(0)
    batches = [next(loader) for _ in range(len(loader))]
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(7))
    assert torch.cat([batch.targets for batch in batches]).tolist() == list(range(7))
    np.testing.assert_array_equal(batches[0].images[1], store[1].astype(np.float32))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_out_each_batch_without_overlap(processes: int) -> None:
    shares = [
        [
            index
            for batch in EpochSampler(12, 6, shuffle=True, seed=1, rank=rank, processes=processes)
            for index in batch
        ]
        for rank in range(processes)
    ]
    everything = [address for share in shares for address in share]
    assert sorted(everything) == [(0, index) for index in range(12)]


def test_volumes_that_are_kept_on_the_device_are_served_as_loaders_serve_them(folder) -> None:
    targets, covariates = np.array([0, 1, 0, 1, 0, 1, 0]), np.random.default_rng(0).normal(size=(7, 2))
    store = CaseStore(folder, CASES, SIZE, is_own=False)
    for change, shuffle in ((Augmentation("paper", SIZE), True), (None, False)):
        dataset = CaseDataset(store, targets, covariates.astype(np.float32), change, seed=3)
        samplers = [EpochSampler(len(CASES), 2, shuffle=shuffle, seed=3) for _ in range(2)]
        loader, resident = EpochLoader(dataset, samplers[0]), ResidentLoader(dataset, samplers[1], torch.device("cpu"))
        assert len(loader) == len(resident) == (3 if shuffle else 4)
        for epoch in (0, 1, 0):
            for expected, found in zip(loader.batches(epoch), resident.batches(epoch), strict=True):
                assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
                assert [one.dtype for one in expected] == [one.dtype for one in found]
    kept = store.on_device(torch.device("cpu"))
    assert kept.dtype == torch.float16 and store.on_device(torch.device("cpu")) is kept  # once for all loaders


def test_volumes_are_kept_on_a_gpu_that_has_four_times_the_room() -> None:
    for channels in (1, 4):
        assert fits(500, (channels, 128, 128, 128), free_bytes=channels * 8 * 500 * 128**3)
        assert not fits(500, (channels, 128, 128, 128), free_bytes=channels * 8 * 500 * 128**3 - 4)


@pytest.mark.parametrize("name", registered_names(AUGMENTATIONS))
def test_processes_that_share_no_memory_read_the_same_from_disk(folder, name: str) -> None:
    store = CaseStore(folder, CASES, SIZE, is_own=False)
    assert store.keep_in_memory()
    dataset = CaseDataset(store, np.arange(7), np.zeros((7, 2), dtype=np.float32), Augmentation(name, SIZE), seed=3)
    sent = pickle.dumps(dataset)  # what a process is given where it is not forked
    assert store[0].tobytes() not in sent
    for address in ((0, 4), (2, 1)):
        served, expected = pickle.loads(sent)[address], dataset[address]
        assert all(torch.equal(one, other) for one, other in zip(served, expected, strict=True))
    assert store.keep_in_memory() and store[0] is store[0]  # here they stay


def test_fewer_cases_than_a_batch_still_make_one_batch() -> None:
    assert [len(batch) for batch in EpochSampler(3, 4, shuffle=True)] == [3]


@pytest.mark.parametrize("name", registered_names(AUGMENTATIONS))
def test_augmentations_do_not_write_into_their_input_and_keep_shape_and_type(name: str) -> None:
    image = torch.randn(1, *SIZE, generator=torch.Generator().manual_seed(0))
    before = image.clone()
    changed = [Augmentation(name, SIZE)(image, seed) for seed in range(20)]
    assert torch.equal(image, before)
    assert all(type(one) is torch.Tensor and one.shape == image.shape and one.dtype == image.dtype for one in changed)
    if name != "none":
        # a mirror image and the image itself are all that mirroring can make
        assert len({float(one.double().sum() + one[0, 0, 0, 0]) for one in changed}) > (1 if name == "mirror" else 3)


def test_the_anatomical_augmentation_mirrors_left_and_right_only() -> None:
    # symmetric along x, so that only flips along another axis could change where the mark is
    image = torch.zeros(1, *SIZE)
    image[0, 0, 0, :] = 100.0
    for seed in range(50):
        assert Augmentation("anatomical", SIZE)(image, seed)[0].amax(dim=2).argmax() == 0


def test_intensity_inside_the_brain_leaves_the_background_at_0() -> None:
    image = torch.randn(1, 8, 8, 8)
    image[:, :4] = 0
    for name, touches_background in (("inside", False), ("anatomical", True)):
        augment = Augmentation(name, (8, 8, 8))
        changed = [augment(image, seed) for seed in range(40)]
        assert all(torch.equal(augment(image, seed), changed[seed]) for seed in range(40))
        assert any(bool(one[:, :4].any()) for one in changed) == touches_background
        # mirroring alone would keep the sum of absolute values
        assert sum(not torch.isclose(one[:, 4:].abs().sum(), image.abs().sum()) for one in changed) > 10


def test_wrong_names_shapes_and_missing_cases_are_refused_with_a_reason(folder) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'paper'"):
        Augmentation("papper", SIZE)

    with pytest.raises(SettingsError, match="must be square"):
        Augmentation("paper", (8, 8, 6))
    with pytest.raises(PathsError, match="'absent'"):
        CaseStore(folder, ["absent"], SIZE)
    with pytest.raises(SettingsError, match=r"\(1, 6, 8, 8\)"):
        CaseStore(folder, CASES, (4, 4, 4), is_own=False)[0]
    (folder / "case0.b2nd").write_bytes(b"\x00" * 100)
    with pytest.raises(PathsError, match="is damaged"):
        CaseStore(folder, CASES, SIZE, is_own=False)[0]


def test_training_cuts_from_anywhere_and_prediction_from_the_centre() -> None:
    volume = torch.arange(10.0 * 12 * 14).reshape(1, 10, 12, 14)
    assert torch.equal(CentreCrop((6, 6, 6))(volume, seed=0), volume[:, 2:8, 3:9, 4:10])
    cut = Augmentation("none", (6, 6, 6), crop_voxels=(6, 6, 6))
    corners = {int(cut(volume, seed)[0, 0, 0, 0]) for seed in range(200)}
    allowed = set(volume[0, :5, :7, :9].int().flatten().tolist())
    assert corners <= allowed and len(corners) > 100
    assert torch.equal(cut(volume, 7), cut(volume, 7))
