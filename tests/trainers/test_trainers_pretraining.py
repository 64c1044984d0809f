"""Pre-training as a user runs it, on toy brains without labels, and what becomes of its weights."""

import errno
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import Workspace, empty_workspace, toy_brain, write_scan
from nnunetv2.run.run_training import get_trainer_from_args

from adnext_plugin.cli import import_dataset, merge, plan_and_preprocess, pretrain, train
from adnext_plugin.errors import PathsError
from adnext_plugin.files import read_json
from adnext_plugin.paths import hook_dir
from adnext_plugin.pretraining.masked_autoencoder import objective
from adnext_plugin.project_key import KEY_FILE, digests, key_home, project_key
from adnext_plugin.training.weights import read_checkpoint

SUBJECTS = 8
DATASETS = {302: "Ward", 303: "Clinic"}
FAST = ["--set", "epochs=2", "--set", "warmup_epochs=0", "--set", "decoder_width=16", "-device", "cpu"]


@pytest.fixture(scope="module")
def unlabelled_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two datasets of unlabelled toy brains at 64³; one image is in both."""
    workspace = empty_workspace(tmp_path_factory.mktemp("unlabelled"))
    preset = workspace.source / "preset.json"
    preset.write_text(json.dumps({"preprocessing": {"input_size_voxels": [64] * 3, "spacing_mm": [1.3] * 3}}))
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace.use(monkeypatch)
        for start, (number, name) in enumerate(DATASETS.items()):
            lines = ["subject,path"]
            for index in range(start * (SUBJECTS - 1), start * (SUBJECTS - 1) + SUBJECTS):
                path = f"person{index:02d}.nii.gz"
                if not (workspace.source / path).exists():
                    write_scan(workspace.source / path, toy_brain(index, has_hole=False))
                lines.append(f"person{index:02d},{path}")
            table = workspace.source / f"{name}.csv"
            table.write_text("\n".join(lines) + "\n")
            assert import_dataset.main([str(number), name, "--table", str(table), "--unlabelled", "-np", "1"]) == 0
            assert plan_and_preprocess.main(["-d", str(number), "-np", "1", "--preset", str(preset)]) == 0
    return workspace


@pytest.fixture
def unlabelled(unlabelled_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The unlabelled datasets, in use, with a results folder of its own."""
    workspace = unlabelled_workspace.with_results(tmp_path / "unlabelled_results")
    workspace.use(monkeypatch)
    return workspace


def _fold(workspace: Workspace, dataset: str, fold: str) -> Path:
    return workspace.results / dataset / "ADNeXtFCMAETrainer_T__ADNeXtPlans__3d_fullres" / f"fold_{fold}"


def test_pretrained_weights_go_into_a_classifier(unlabelled, toy_workspace, tmp_path, monkeypatch, capsys) -> None:
    assert pretrain.main(["302", "3d_fullres", "-tr", "ADNeXtFCMAETrainer_T", *FAST]) == 0
    fold = _fold(unlabelled, "Dataset302_Ward", "all")
    checkpoint = fold / "checkpoint_final.pth"
    assert (fold / "validation" / "reconstructions.png").stat().st_size > 10_000
    ways = read_json(fold.parent / "plans.json")["configurations"]["3d_fullres"]["adnext"]["pretraining"]
    assert len(ways["options"]["sparse_convolution"]) == 4
    notes = read_checkpoint(checkpoint)["adnext"]["pretraining_data"]
    assert notes["subject_count"] == SUBJECTS and notes["datasets"] == ["Dataset302_Ward"]
    assert b"person0" not in checkpoint.read_bytes()
    assert notes == read_json(fold / "pretraining_data.json")

    toy_workspace.with_results(tmp_path).use(monkeypatch)
    capsys.readouterr()
    tuning = ["301", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T", "-device", "cpu", "--set", "epochs=1"]
    assert train.main([*tuning, "-pretrained_weights", str(checkpoint), "--set", "learning_rate=1e-30"]) == 0
    encoder = {k: v for k, v in read_checkpoint(checkpoint)["network_weights"].items() if k.startswith("encoder.")}
    assert f"{len(encoder)} tensors matched" in capsys.readouterr().out
    tuned = tmp_path / "Dataset301_Toy" / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres" / "fold_0" / "checkpoint_final.pth"
    weights = read_checkpoint(tuned)["network_weights"]
    assert all(torch.equal(weights[name], tensor) for name, tensor in encoder.items())
    capsys.readouterr()
    assert train.main([*tuning[:4], "ADNeXtTrainer_S", *tuning[5:], "-pretrained_weights", str(checkpoint)]) == 2
    assert "use weights of the same network, size, kernel and stem" in capsys.readouterr().err


def test_an_interrupted_pretraining_ends_with_the_same_weights(unlabelled, monkeypatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    settings = {"epochs": 3, "warmup_epochs": 1, "decoder_width": 16, "learning_rate": 1e-3}
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps(settings))

    def trainer(resume: bool):
        name = "ADNeXtFCMAETrainer_T"
        return get_trainer_from_args("302", "3d_fullres", 1, name, "ADNeXtPlans", resume, torch.device("cpu"))

    # whatever is found to be faster must be what the network does
    monkeypatch.setattr(objective, "fastest_ways", lambda *_: ("scatter", "halo", "halo", "scatter"))
    straight = trainer(resume=False)
    straight.run_training()
    ways = straight.settings.options["sparse_convolution"]
    assert list(straight.network.encode.keywords["ways"]) == ways
    folder = Path(straight.output_folder)
    expected = read_checkpoint(folder / "checkpoint_final.pth")["network_weights"]
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({**settings, "sparse_convolution": ways}))
    interrupted = trainer(resume=False)
    interrupted.on_train_start()
    interrupted.on_epoch_start()
    interrupted.on_train_epoch_start()
    interrupted.on_train_epoch_end(
        [interrupted.train_step(next(interrupted.dataloader_train)) for _ in range(len(interrupted.dataloader_train))]
    )
    with torch.no_grad():
        interrupted.on_validation_epoch_start()
        interrupted.on_validation_epoch_end(
            [
                interrupted.validation_step(next(interrupted.dataloader_val))
                for _ in range(len(interrupted.dataloader_val))
            ]
        )
    interrupted.on_epoch_end()
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps(settings))  # how to convolve comes from the checkpoint
    resumed = trainer(resume=True)
    resumed.load_checkpoint(str(folder / "checkpoint_latest.pth"))
    resumed.run_training()
    found = read_checkpoint(folder / "checkpoint_final.pth")["network_weights"]
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    resumed.perform_actual_validation()
    errors = read_json(folder / "validation" / "summary.json")["mean_squared_error_of_masked_voxels"]
    assert set(errors) == {"network", "mean_training_scan", "filled_in_from_visible"}
    assert all(0 < error < 10 for error in errors.values())


def test_an_interrupted_pre_training_goes_on_though_it_had_to_find_out_how_to_convolve(
    unlabelled, interrupted, capsys
) -> None:
    command = ["302", "3d_fullres", "-tr", "ADNeXtFCMAETrainer_T", *FAST]
    latest = _fold(unlabelled, "Dataset302_Ward", "all") / "checkpoint_latest.pth"
    assert interrupted(lambda: pretrain.main(command), 1) == 130
    assert read_checkpoint(latest)["adnext"]["settings"]["options"]["sparse_convolution"] is not None
    assert pretrain.main(command) == 0
    assert "fold all goes on after 1 of 2 epochs" in capsys.readouterr().out
    assert pretrain.main(command) == 0
    assert "fold all is finished already" in capsys.readouterr().out
    assert interrupted(lambda: pretrain.main([*command, "--set", "mask_ratio=0.4"]), 0) == 130
    assert "the run there had mask_ratio=0.6 (now 0.4)" in capsys.readouterr().out


def test_datasets_are_merged_without_copying(unlabelled, capsys) -> None:
    assert merge.main(["304", "Both", "302", "303"]) == 0
    folder = unlabelled.preprocessed / "Dataset304_Both"
    subjects = pd.read_csv(folder / "subjects.csv")
    assert len(subjects) == 2 * SUBJECTS - 1  # one image is in both
    assert set(subjects["dataset"]) == {"Dataset302_Ward", "Dataset303_Clinic"}
    volumes = sorted((folder / "ADNeXtPlans_3d_fullres").glob("*.b2nd"))
    assert len(volumes) == len(subjects) and all(path.is_symlink() and path.is_file() for path in volumes)
    capsys.readouterr()
    assert merge.main(["304", "Both", "302", "303"]) == 2
    assert "exists" in capsys.readouterr().err
    assert pretrain.main(["304", "3d_fullres", "-tr", "ADNeXtFCMAETrainer_T", *FAST, "--set", "epochs=1"]) == 0
    notes = read_json(_fold(unlabelled, "Dataset304_Both", "all") / "pretraining_data.json")
    assert notes["scan_count"] == len(subjects) and len(notes["datasets"]) == 2


def test_datasets_prepared_differently_are_not_merged(unlabelled, toy_workspace, capsys) -> None:
    link = unlabelled.preprocessed / "Dataset301_Toy"
    link.symlink_to(toy_workspace.preprocessed / "Dataset301_Toy")
    try:
        assert merge.main(["305", "Odd", "302", "301"]) == 2
        assert "was preprocessed with spacing_mm = [1.3, 1.3, 1.3]" in capsys.readouterr().err
        assert not list(unlabelled.preprocessed.glob("*305*"))
    finally:
        link.unlink()


def test_people_are_remembered_without_being_named(tmp_path: Path) -> None:
    key = project_key(tmp_path)
    assert project_key(tmp_path) == key and project_key(tmp_path / "other") != key
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert digests(["b", "a", "a", ""], key) == digests(["a", "b"], key) and len(digests(["a"], key)[0]) == 64
    assert digests(["a"], key) != digests(["a"], project_key(tmp_path / "other"))


@pytest.mark.parametrize("of_results", ["results", "results/seed_43", "results/permuted_1"])
def test_a_key_that_an_earlier_version_left_with_results_moves_to_the_preprocessed_data(
    of_results: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_results", str(tmp_path / of_results))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    key = project_key(tmp_path / "results")
    assert project_key(key_home()) == key and key_home() == tmp_path / "preprocessed"
    assert not (tmp_path / "results" / KEY_FILE).exists()


@pytest.mark.parametrize("has_links", [True, False])
def test_of_many_who_draw_the_key_at_once_all_end_with_one(tmp_path: Path, monkeypatch, has_links: bool) -> None:
    def without_links(*_paths: object) -> None:
        raise PermissionError(errno.EPERM, "as on exFAT")

    if not has_links:
        monkeypatch.setattr("adnext_plugin.project_key.os.link", without_links)
    homes = [tmp_path / str(trial) for trial in range(20) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(project_key, homes))
    assert all(len(set(keys[first : first + 4])) == 1 for first in range(0, len(keys), 4))
    assert all(stat.S_IMODE((home / KEY_FILE).stat().st_mode) == 0o600 for home in homes)
    assert not list(tmp_path.glob("*/.adnext-partial*"))


def test_a_key_of_another_user_or_a_damaged_one_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_text('{"key": 3}')
    with pytest.raises(PathsError, match="holds no key"):
        project_key(tmp_path)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mask_ratio=0", "mask_ratio must lie between 0 and 1, got 0"),
        ("mask_ratio=1", "mask_ratio must lie between 0 and 1, got 1"),
        ("patch_size_voxels=48", "multiple of the encoder's stride of 32, got 48"),
        ("patch_size_voxels=96", "cannot be cut into patches of 96"),
        ("mask_ration=0.5", "did you mean 'mask_ratio'"),
        ("sparse_backend=minkowsky", "sparse_backend"),
    ],
)
def test_impossible_settings_are_one_line(unlabelled, setting: str, message: str, capsys) -> None:
    assert pretrain.main(["302", "3d_fullres", "-tr", "ADNeXtFCMAETrainer_T", *FAST, "--set", setting]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in lines if line.startswith("error:")]) == 1 and message in lines[-1]


def test_a_classifier_refuses_data_without_a_target(unlabelled, capsys) -> None:
    assert train.main(["302", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T", "-device", "cpu"]) == 2
    assert "was imported without a target" in capsys.readouterr().err
