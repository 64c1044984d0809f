"""Damage to checkpoints: always noticed, and the newest whole state of a run takes over."""

import random
import shutil
from pathlib import Path

import pytest
import torch

from adnext_plugin.cli import export, predict
from adnext_plugin.errors import WeightsError
from adnext_plugin.run_folder import FoldFolder
from adnext_plugin.training.checkpoints import require_undamaged, set_earlier_run_aside, write_checkpoint
from adnext_plugin.training.states import mend_best, newest_state
from adnext_plugin.training.weights import load_encoder, read_checkpoint

FLIPS = 200
OLD = Path(__file__).parents[1] / "files_of_0_1_0"


def _checkpoint(epoch: int = 1, value: float = 1.0) -> dict:
    weights = {"encoder.a": torch.full((7, 5), value), "head.count": torch.tensor(3)}
    state = {"state": {0: {"exp_avg": torch.arange(35.0)}}, "param_groups": [{"lr": 1e-3}]}
    return {"network_weights": weights, "optimizer_state": state, "current_epoch": epoch, "logging": {"a": [1.0]}}


def _flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_one_changed_bit_anywhere_in_a_checkpoint_is_noticed_and_none_without(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.pth", tmp_path / "checkpoint_best.pth"
    write_checkpoint(_checkpoint(), whole)
    assert require_undamaged(whole) and read_checkpoint(whole)["current_epoch"] == 1
    bits = whole.stat().st_size * 8
    # all of the archive's last record and the seal, and a sample of the rest
    flipped = {*random.Random(0).sample(range(bits), FLIPS), *range(bits - 8 * 100, bits, 3)}
    for bit in flipped:
        shutil.copyfile(whole, path)
        _flip(path, bit)
        with pytest.raises(WeightsError, match=r"checkpoint_best\.pth is damaged"):
            read_checkpoint(path)


def test_a_checkpoint_cut_anywhere_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_best.pth"
    write_checkpoint(_checkpoint(), path)
    content = path.read_bytes()
    for length in (0, 3, 4, 30, len(content) // 2, len(content) - 100, len(content) - 78, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"checkpoint_best\.pth is"):
            read_checkpoint(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(WeightsError, match=r"checkpoint_best\.pth is damaged"):
        read_checkpoint(path)


def test_a_model_with_a_damaged_checkpoint_is_neither_exported_nor_predicted_with(trained, tmp_path, capsys) -> None:
    _flip(trained.run / "fold_2" / "checkpoint_best.pth", 9000)
    scan = str(next(trained.workspace.source.glob("*.nii.gz")))
    target = tmp_path / "bundle.zip"
    assert export.main([str(trained.run), "-o", str(target), "-device", "cpu"]) == 2
    answers = ["-i", scan, "-o", str(tmp_path / "answers"), "-m", str(trained.run), "-device", "cpu", "-np", "1"]
    assert predict.main(answers) == 2
    errors = capsys.readouterr().err
    assert errors.count("fold_2/checkpoint_best.pth is damaged") == 2 and not target.exists()


def test_torch_and_nnunet_read_what_is_sealed_in_their_own_ways(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint_final.pth"
    write_checkpoint(_checkpoint(value=2.5), path)
    for options in ({"weights_only": False}, {"weights_only": True}, {"weights_only": True, "mmap": True}):
        assert torch.equal(torch.load(path, **options)["network_weights"]["encoder.a"], torch.full((7, 5), 2.5))


def test_checkpoints_of_others_and_of_earlier_versions_have_no_seal_and_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save(_checkpoint(), path, **options)
        assert not require_undamaged(path) and read_checkpoint(path)["current_epoch"] == 1
    old = next(OLD.rglob("checkpoint_best.pth"))
    assert not require_undamaged(old) and read_checkpoint(old)["trainer_name"] == "ADNeXtTrainer_T"
    # of ours, what torch's reader takes for other numbers is found by the archive's own checksums
    torch.save({**_checkpoint(), "adnext": {}}, path)
    assert read_checkpoint(path)["current_epoch"] == 1
    _flip(path, 8 * path.read_bytes().index(torch.full((7, 5), 1.0).numpy().tobytes()))
    assert torch.load(path, weights_only=True)["network_weights"]["encoder.a"][0, 0] != 1
    with pytest.raises(WeightsError, match=r"a\.pth is damaged: .*checksum"):
        read_checkpoint(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, value: float) -> None:
    checkpoint = _checkpoint()
    checkpoint["network_weights"]["encoder.a"][3, 2] = value
    write_checkpoint(checkpoint, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a\.pth: encoder\.a holds weights that are not finite"):
        read_checkpoint(tmp_path / "a.pth")
    network = torch.nn.Module()
    network.key_to_encoder = "encoder"
    with pytest.raises(WeightsError, match=r"encoder\.a holds weights"):
        load_encoder(network, tmp_path / "a.pth")


def test_the_state_before_the_newest_is_kept(tmp_path: Path) -> None:
    fold = FoldFolder(tmp_path)
    for epoch in (1, 2, 3):
        write_checkpoint(_checkpoint(epoch), fold.checkpoint_latest, fold.checkpoint_previous)
        assert read_checkpoint(fold.checkpoint_latest)["current_epoch"] == epoch
    assert read_checkpoint(fold.checkpoint_previous)["current_epoch"] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_latest.pth", "checkpoint_previous.pth"]


def test_the_newest_state_that_is_whole_is_found_and_the_damaged_ones_are_named(tmp_path: Path) -> None:
    fold = FoldFolder(tmp_path)
    assert newest_state(fold) is None
    epochs = {fold.checkpoint_best: 2, fold.checkpoint_previous: 3, fold.checkpoint_latest: 4}
    for path, epoch in epochs.items():
        write_checkpoint(_checkpoint(epoch), path)
    found = newest_state(fold)
    assert found is not None and (found.path, found.problems) == (fold.checkpoint_latest, ())
    _flip(fold.checkpoint_latest, 9000)
    found = newest_state(fold, fold.checkpoint_latest)
    assert found is not None and found.path == fold.checkpoint_previous and found.checkpoint["current_epoch"] == 3
    (problem,) = found.problems
    assert str(fold.checkpoint_latest) in problem
    # where the best epoch is newer, it is gone on from
    write_checkpoint(_checkpoint(4), fold.checkpoint_best)
    found = newest_state(fold)
    assert found is not None and found.path == fold.checkpoint_best
    fold.checkpoint_best.write_bytes(b"")
    fold.checkpoint_previous.write_bytes(fold.checkpoint_latest.read_bytes())
    with pytest.raises(WeightsError, match=r"checkpoint_latest\.pth is damaged.*begin anew with --restart"):
        newest_state(fold)


def test_a_damaged_best_epoch_is_written_again_from_a_state_of_that_epoch(tmp_path: Path) -> None:
    fold = FoldFolder(tmp_path)
    assert mend_best(fold, 1, is_needed=True) is None
    for path, epoch in ((fold.checkpoint_best, 2), (fold.checkpoint_previous, 2), (fold.checkpoint_latest, 3)):
        write_checkpoint(_checkpoint(epoch, value=epoch), path)
    expected = fold.checkpoint_best.read_bytes()
    assert mend_best(fold, 1, is_needed=True) is None
    _flip(fold.checkpoint_best, 5000)
    said = mend_best(fold, 1, is_needed=True)
    assert said is not None and "checkpoint_previous.pth is of that epoch" in said
    assert fold.checkpoint_best.read_bytes() == expected  # equal states are equal files
    _flip(fold.checkpoint_best, 5000)
    with pytest.raises(WeightsError, match="no other state is of that epoch: begin anew with --restart"):
        mend_best(fold, 0, is_needed=True)
    assert "is damaged" in (mend_best(fold, 0, is_needed=False) or "")


def test_what_says_which_run_it_was_goes_aside_with_an_earlier_run(tmp_path: Path) -> None:
    for name in ("checkpoint_latest.pth", "checkpoint_previous.pth", "run.json", "fitted_steps.safetensors"):
        (tmp_path / name).write_text(name)
    aside = set_earlier_run_aside(tmp_path)
    assert aside is not None and len(list(aside.iterdir())) == 4 and list(tmp_path.iterdir()) == [aside]
    # a run that was killed before its first epoch's end has left nothing worth keeping
    (tmp_path / "run.json").write_text("{}")
    assert set_earlier_run_aside(tmp_path) is None and (tmp_path / "run.json").is_file()
