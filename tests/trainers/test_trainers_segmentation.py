"""Trainers of segmentation through nnU-Net's own commands, on crops of phantoms with two structures."""

import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from adnext_plugin import mending
from adnext_plugin.cli import predict, train
from adnext_plugin.errors import AdnextError, SegmentationError
from adnext_plugin.networks.segmentation.build import build_segmenter
from adnext_plugin.paths import hook_dir
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.pretraining.amaes.network import build_restorer
from adnext_plugin.registry import TRAINERS, load
from adnext_plugin.settings import SegmentationSettings
from adnext_plugin.trainers.nnunet_errors import show_error
from adnext_plugin.trainers.segmentation.cases import take_cases
from adnext_plugin.trainers.segmentation.variants import TRAINERS as TABLE
from adnext_plugin.workflows import train_segmentation

DATASET, CASES, SIZE = "Dataset902_Blobs", 8, (32, 30, 32)
SHORT = {"epochs": 1, "warmup_epochs": 0, "steps_per_epoch": 1, "validation_steps": 1, "batch_size": 1}
# one of each kind of decoder and recipe; any of the ten, the largest of which has 247 million parameters, on demand
KINDS = ["ADNeXtSegUNetBTrainer", "ADNeXtSegMedNeXtV2Trainer", "ADNeXtSegTrainer_T"]
TRAINED = os.environ.get("ADNEXT_TEST_SEGMENTERS", "").split() or KINDS
RESAMPLING = {"resampling_fn": "resample_data_or_seg_to_shape", "kwargs": {"order_z": 0, "force_separate_z": None}}


def _blob(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright ellipsoid in noise, the half of it a little brighter, and its labels; (x, y, z)."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(length) for length in SIZE], indexing="ij")).astype(float)
    centre = np.array(SIZE) / 2 + generator.uniform(-3, 3, 3)
    radii = generator.uniform(6, 9, 3)
    inside = (((grid.T - centre) / radii) ** 2).sum(-1).T < 1
    labels = np.where(inside, np.where(grid[1] > centre[1], 1, 2), 0).astype(np.uint8)
    return (100 * inside + 30 * (labels == 2) + generator.normal(100, 15, SIZE)).astype(np.float32), labels


def _plans() -> dict:
    """As nnU-Net plans these crops, with a patch that is no multiple of 16."""
    resampling = {}
    for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        resampling[f"resampling_fn_{kind}"] = RESAMPLING["resampling_fn"]
        resampling[f"resampling_fn_{kind}_kwargs"] = {
            "is_seg": kind == "seg", "order": order, **RESAMPLING["kwargs"]
        }  # fmt: skip
    layers = {
        "n_stages": 3,
        "features_per_stage": [4, 8, 16],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3] * 3] * 3,
        "strides": [[1] * 3, [2] * 3, [2] * 3],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    full = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [32, 28, 32],
        "median_image_size_in_voxels": [32.0, 30.0, 32.0],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        **resampling,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": layers,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    statistics = dict.fromkeys(("max", "mean", "median", "min", "percentile_00_5", "percentile_99_5", "std"), 1.0)
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [32, 30, 32],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {
            "3d_fullres": full,
            "2d": {"inherits_from": "3d_fullres", "patch_size": [32, 32]},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": statistics},
    }


@dataclass(frozen=True)
class Blobs:
    """nnU-Net's three folders, with the dataset prepared, and AMAES weights of U-Net B."""

    folder: Path

    @property
    def raw(self) -> Path:
        return self.folder / "raw" / DATASET

    @property
    def prepared(self) -> Path:
        return self.folder / "preprocessed" / DATASET

    @property
    def environment(self) -> dict[str, str]:
        names = {f"nnUNet_{name}": str(self.folder / name) for name in ("raw", "preprocessed", "results")}
        threads = {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1"}
        return {**names, **threads, "nnUNet_extTrainer": str(hook_dir()), "ADNEXT_SETTINGS": json.dumps(SHORT)}

    def fold(self, trainer: str) -> Path:
        return self.folder / "results" / DATASET / f"{trainer}__nnUNetPlans__3d_fullres" / "fold_0"


def _prepare(blobs: Blobs) -> None:
    images = blobs.prepared / "nnUNetPlans_3d_fullres"
    for path in (images, blobs.prepared / "gt_segmentations", blobs.raw / "imagesTr", blobs.folder / "results"):
        path.mkdir(parents=True)
    dataset_json = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "front": 1, "back": 2},
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }
    for name, content in (("nnUNetPlans", _plans()), ("dataset", dataset_json), ("dataset_fingerprint", {})):
        (blobs.prepared / f"{name}.json").write_text(json.dumps(content))
    manager = PlansManager(_plans())
    for number in range(CASES):
        files = [blobs.raw / "imagesTr" / f"blob_{number}_0000.nii.gz"]
        files.append(blobs.prepared / "gt_segmentations" / f"blob_{number}.nii.gz")
        for path, volume in zip(files, _blob(number), strict=True):
            nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), path)
        planned = manager.get_configuration("3d_fullres")
        case = DefaultPreprocessor(False).run_case([str(files[0])], str(files[1]), manager, planned, dataset_json)
        nnUNetDatasetBlosc2.save_case(*case, str(images / f"blob_{number}"))


@pytest.fixture(scope="module")
def blobs_once(tmp_path_factory: pytest.TempPathFactory) -> Blobs:
    blobs = Blobs(tmp_path_factory.mktemp("blobs"))
    _prepare(blobs)
    restorer = build_restorer(NetworkSettings(name="unet_b"), 1, (32, 32, 32), "light", skips=False)
    torch.save({"network_weights": restorer.state_dict()}, blobs.folder / "amaes.pth")
    return blobs


@pytest.fixture
def blobs(blobs_once: Blobs, monkeypatch: pytest.MonkeyPatch) -> Blobs:
    for name, value in blobs_once.environment.items():
        monkeypatch.setenv(name, value)
    return blobs_once


def _made(trainer: str = "ADNeXtSegUNetBTrainer", configuration: str = "3d_fullres", fold: int | str = 0):
    return get_trainer_from_args(DATASET, configuration, fold, trainer, "nnUNetPlans", device=torch.device("cpu"))


@pytest.fixture(scope="module")
def trained(blobs_once: Blobs) -> Iterator[Blobs]:
    """One epoch of every trainer of `TRAINED`, as `nnUNetv2_train` does it, without the prediction at its end."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in blobs_once.environment.items():
            monkeypatch.setenv(name, value)
        for name in TRAINED:
            trainer = _made(name)
            trainer.run_training()
            (blobs_once.fold(name) / "checkpoint_best.pth").unlink()
    yield blobs_once
    shutil.rmtree(blobs_once.folder / "results")


def test_every_trainer_of_the_table_is_declared_and_found() -> None:
    assert len(TABLE) == 10
    for name, trainer in TABLE.items():
        assert load(TRAINERS, name) is trainer and (trainer.__name__, trainer.__qualname__) == (name, name)
        assert issubclass(trainer, nnUNetTrainer)
    with pytest.raises(AttributeError, match="has no attribute 'ADNeXtSegOther'"):
        from adnext_plugin.trainers.segmentation import variants

        _ = variants.ADNeXtSegOther


@pytest.mark.parametrize("name", TRAINED)
def test_every_trainer_trains_an_epoch_and_leaves_what_nnunet_goes_on_with(trained: Blobs, name: str) -> None:
    fold = trained.fold(name)
    # plain numbers alone, so that nobody needs to run code from it
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=True)
    assert checkpoint["trainer_name"] == name and checkpoint["current_epoch"] == 1
    assert np.isfinite(checkpoint["logging"]["train_losses"]).all() and 0 <= checkpoint["_best_ema"] <= 1
    # what is mirrored in training is mirrored in prediction
    mirrors = checkpoint["inference_allowed_mirroring_axes"]
    assert mirrors == ((0, 1, 2) if "MedNeXtV2" in name else None)
    planned = json.loads((fold.parent / "plans.json").read_text())["configurations"]["3d_fullres"]
    edge = 64 if "Trainer_" in name or "Swin" in name else 32
    assert planned["patch_size"] == [edge] * 3 and planned["batch_size"] == 1
    assert planned["adnext_segmentation"]["settings"]["augmentation"] == ("nnunet" if mirrors else "all")
    assert not list(fold.glob(".adnext-*"))


PREDICT = """
import sys
from nnunetv2.evaluation.evaluate_predictions import evaluate_folder_entry_point
from nnunetv2.inference.predict_from_raw_data import predict_entry_point
if __name__ == "__main__":
    scans, out, prepared, *trainers = sys.argv[1:]
    for trainer in trainers:
        options = ["-d", "902", "-c", "3d_fullres", "-f", "0", "-tr", trainer, "-npp", "0", "-nps", "0"]
        sys.argv = ["nnUNetv2_predict", "-i", scans, "-o", f"{out}/{trainer}", *options, "-device", "cpu"]
        sys.argv += ["--disable_tta"]
        predict_entry_point()
    files = ["-djfile", f"{prepared}/dataset.json", "-pfile", f"{out}/{trainers[0]}/plans.json", "-np", "1"]
    folders = [f"{prepared}/gt_segmentations", f"{out}/{trainers[0]}"]
    sys.argv = ["nnUNetv2_evaluate_folder", *folders, *files, "--chill"]
    evaluate_folder_entry_point()
"""


def test_a_fresh_process_predicts_a_scan_with_every_trainer_and_evaluates(trained: Blobs, tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    shutil.copy(trained.raw / "imagesTr" / "blob_0_0000.nii.gz", tmp_path / "scans")
    script = tmp_path / "predict.py"
    script.write_text(PREDICT)
    command = [sys.executable, script, tmp_path / "scans", tmp_path / "out", trained.prepared, *TRAINED]
    # where nothing asked for training is known, the checkpoint's own plans say what the network is
    environment = {**os.environ, **trained.environment, "ADNEXT_SETTINGS": ""}
    subprocess.run([str(word) for word in command], check=True, env=environment, capture_output=True)
    for name in TRAINED:
        found = nibabel.load(tmp_path / "out" / name / "blob_0.nii.gz")
        assert found.shape == SIZE and set(np.unique(found.get_fdata())) <= {0, 1, 2}
    summary = json.loads((tmp_path / "out" / TRAINED[0] / "summary.json").read_text())
    assert set(summary["mean"]) == {"1", "2"} and 0 <= summary["foreground_mean"]["Dice"] <= 1


def test_adnext_predict_names_the_command_that_segments(trained: Blobs, tmp_path: Path, capsys) -> None:
    run = trained.fold(TRAINED[0]).parent
    assert predict.main(["-i", str(trained.raw), "-o", str(tmp_path / "out"), "-m", str(run), "-device", "cpu"]) == 2
    assert f"predict with nnUNetv2_predict -d {DATASET} -c 3d_fullres -tr {TRAINED[0]}" in capsys.readouterr().err


def test_nnunets_own_loader_takes_an_encoder_over_and_the_trainer_notices(blobs: Blobs, tmp_path: Path) -> None:
    trainer = _made(fold=3)  # of which nothing has been trained that would be set aside
    maybe_load_checkpoint(trainer, False, False, str(blobs.folder / "amaes.pth"))
    saved = torch.load(blobs.folder / "amaes.pth", weights_only=True)["network_weights"]
    for name, tensor in trainer.network.state_dict().items():
        assert not name.startswith("encoder.") or torch.equal(tensor, saved[name])
    trainer.on_train_start()
    assert trainer.plan.settings.augmentation == "spatial"
    assert "spatial" in (blobs.fold("ADNeXtSegUNetBTrainer").parent / "plans.json").read_text()


def test_a_run_goes_on_with_its_own_settings_and_refuses_others(trained: Blobs, monkeypatch) -> None:
    for name, value in trained.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"epochs": 2}))
    trainer = _made("ADNeXtSegTrainer_T")
    maybe_load_checkpoint(trainer, True, False)
    assert (trainer.current_epoch, trainer.num_epochs, trainer.num_iterations_per_epoch) == (1, 2, 1)
    assert trainer.plan.settings.augmentation == "all" and trainer.configuration_manager.batch_size == 1
    trainer.run_training()
    assert len(trainer.logger.get_value("train_losses", None)) == 2
    # interrupted once more, it has as many epochs before it as were asked for last
    monkeypatch.setenv("ADNEXT_SETTINGS", "")
    again = _made("ADNeXtSegTrainer_T")
    maybe_load_checkpoint(again, True, False)
    assert (again.current_epoch, again.num_epochs) == (2, 2)
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"batch_size": 3}))
    with pytest.raises(SegmentationError, match="was trained with batch_size=1 and cannot continue with batch_size=3"):
        maybe_load_checkpoint(_made("ADNeXtSegTrainer_T"), False, True)
    final = trained.fold("ADNeXtSegUNetBTrainer") / "checkpoint_final.pth"
    with pytest.raises(SegmentationError, match="is not of ADNeXtSegTrainer_T and 3d_fullres"):
        _made("ADNeXtSegTrainer_T").load_checkpoint(str(final))


def test_adnext_train_reports_what_it_takes_over_and_trains_on_few_cases(blobs: Blobs, capfd) -> None:
    run = blobs.folder / "results" / DATASET / "ADNeXtSegUNetBTrainer__nnUNetPlans__3d_fullres"
    words = ["902", "3d_fullres", "1", "-tr", "ADNeXtSegUNetBTrainer", "-device", "cpu", "--n_train", "3"]
    words += ["-pretrained_weights", str(blobs.folder / "amaes.pth")]
    # in a process of its own, where nnU-Net exports with one process
    command = "import sys\nfrom adnext_plugin.cli.train import main\nif __name__ == '__main__': sys.exit(main())"
    script = blobs.folder / "train.py"
    script.write_text(command)
    environment = {**os.environ, **blobs.environment}
    done = subprocess.run([sys.executable, str(script), *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Weights from amaes.pth: 80 tensors matched, 74 new (decoder.seg_layers.decoder.up.0.weight" in done.stdout
    assert "augmentation spatial" in done.stdout
    # where the file lay is not in what is shared
    checkpoint = torch.load(run / "fold_1" / "checkpoint_final.pth", weights_only=True)
    for plans in (json.loads((run / "plans.json").read_text()), checkpoint["init_args"]["plans"]):
        settings = plans["configurations"]["3d_fullres"]["adnext_segmentation"]["settings"]
        assert (settings["pretrained_weights"], settings["n_train"]) == ("amaes.pth", 3)
    assert str(blobs.folder / "amaes.pth") not in (run / "fold_1" / "debug.json").read_text()
    assert len(json.loads((run / "fold_1" / "validation" / "summary.json").read_text())["metric_per_case"]) == 2
    assert train.main(words) == 0
    assert "fold 1 is finished already" in capfd.readouterr().out


def _refused(words: str, capfd) -> str:
    assert train.main(words.split()) == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def test_wrong_weights_are_refused_in_one_line_that_names_them(blobs: Blobs, tmp_path: Path, capfd) -> None:
    other = tmp_path / "other.pth"
    restorer = build_restorer(NetworkSettings(name="adnext_t"), 1, (32, 32, 32), "light", skips=False)
    torch.save({"network_weights": restorer.state_dict()}, other)
    words = f"902 3d_fullres 2 -tr ADNeXtSegUNetBTrainer -device cpu -pretrained_weights {other}"
    assert "other.pth covers 0 of 80 encoder tensors; encoder.stages.0.0.convs.0.conv.weight" in _refused(words, capfd)
    assert not list((blobs.folder / "results").rglob("fold_2/*.pth"))


def test_a_refused_restart_leaves_a_finished_fold_where_it_was(blobs: Blobs, tmp_path: Path, capfd) -> None:
    folder = blobs.fold("ADNeXtSegUNetBTrainer").parent / "fold_4"
    finished = [folder / "checkpoint_final.pth", folder / "validation" / "summary.json"]
    for path in finished:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of a finished run")
    other = tmp_path / "other.pth"
    torch.save({"network_weights": {"encoder.weight": torch.zeros(1)}}, other)
    words = "902 3d_fullres 4 -tr ADNeXtSegUNetBTrainer -device cpu --restart"
    for further, said in {
        "--set n_train=99": "n_train is 99, and the fold has",
        "--set patch_voxels=[48,56,48]": "a multiple of 16, got [48, 56, 48]",
        f"-pretrained_weights {other}": "other.pth covers 0 of 80 encoder tensors",
    }.items():
        assert said in _refused(f"{words} {further}", capfd)
        assert not list(folder.glob("earlier_run_*")) and all(path.is_file() for path in finished)
    arguments = DATASET, "3d_fullres", 4, "ADNeXtSegUNetBTrainer", "nnUNetPlans", False, torch.device("cpu")
    get_trainer_from_args(*arguments).on_train_start()
    (aside,) = folder.glob("earlier_run_*")
    assert all((aside / path.relative_to(folder)).is_file() and not path.exists() for path in finished)


def test_adnext_train_refuses_what_is_not_for_segmentation(blobs: Blobs, capfd) -> None:
    for words, message in {
        "902 3d_fullres 0 -tr ADNeXtTrainer_T": "ADNeXtTrainer_T learns of people, and Dataset902_Blobs has segmen",
        "902 3d_fullres 9 -tr ADNeXtSegUNetBTrainer": "there is no fold 9; give 0 to 4, 'all' or 'cv'",
        "902 3d_fullres 0 -tr nnUNetTrainer --set epochs=3": "nnU-Net's own and takes no settings; leave out epochs",
        "902 3d_fullres 0 -tr ADNeXtSegUNetBTrainer --set epoch=3": "unknown key 'epoch'; did you mean 'epochs'",
        "902 3d_fullres cv -tr ADNeXtSegUNetBTrainer --seeds 3": "--seeds is for labels of people",
        "902 3d_fullres 0 -tr ADNeXtSegUNetBTrainer -p Other": "make it with nnUNetv2_plan_and_preprocess -d 902",
    }.items():
        assert message in _refused(f"{words} -device cpu", capfd)


def test_processes_that_cannot_train_a_segmentation_are_refused_before_anything_is_touched(
    blobs: Blobs, capfd, monkeypatch
) -> None:
    words, results = "902 3d_fullres 3 -tr ADNeXtSegUNetBTrainer --restart", blobs.folder / "results"
    before = sorted(results.rglob("*"))
    assert _refused(f"{words} -device cpu --num-gpus 2", capfd) == (
        "error: --num-gpus 2: a segmentation is trained by one process on a CPU; leave it out"
    )
    assert _refused(f"{words} -device cpu --num-gpus 0", capfd) == "error: --num-gpus must be at least 1, got 0"
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 2)
        assert _refused(f"{words} --num-gpus 8", capfd) == (
            "error: --num-gpus 8: torch sees 2 GPU(s) here; give that number or fewer"
        )
    for name, value in (("TORCHELASTIC_RUN_ID", "none"), ("WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    assert "train a segmentation on several GPUs with --num-gpus" in _refused(f"{words} -device cpu", capfd)
    assert sorted(results.rglob("*")) == before


def test_an_error_in_one_of_several_processes_is_one_line(blobs: Blobs, capfd, monkeypatch) -> None:
    # without GPUs nnU-Net's trainer gets no further than what is refused before it looks for one
    monkeypatch.setattr(train_segmentation, "_require_gpus", lambda count, device: None)
    words = "902 3d_fullres 3 -tr ADNeXtSegUNetBTrainer -device cpu --num-gpus 2 --set patch_voxels=[48,56,48]"
    assert train.main(words.split()) == 2
    said = capfd.readouterr().err
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "a multiple of 16, got [48, 56, 48]" in line and "Traceback" not in said


SETTINGS = {
    "patch_voxels": ([48, 56, 48], r"a multiple of 16, got \[48, 56, 48\]"),
    "epochs": (0, "ADNEXT_SETTINGS: epochs must be at least 1"),
    "warmup_epochs": (3, r"warmup_epochs must be below epochs \(1\)"),
    "network_options": ({"width": 3}, "network 'unet_b' has no option 'width'"),
    "deep_supervision": (True, "leave out deep_supervision, which MedNeXt-v2 has"),
    "n_train": (7, "n_train is 7, and the fold has 6 cases to train on"),
    "folds": (6, "has 5 folds, and 6 are asked for"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_cannot_be_are_refused_in_one_line_under_nnunets_command(blobs, monkeypatch, name: str) -> None:
    value, message = SETTINGS[name]
    nnUNetTrainer.do_split(_made())  # draws its five folds
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({**SHORT, name: value}))
    with pytest.raises(SegmentationError, match=message) as caught:
        trainer = _made()
        trainer.initialize()
        trainer.do_split()
    assert "\n" not in str(caught.value) and caught.value.code == f"error: {caught.value}"


def test_other_data_are_refused_in_one_line(blobs: Blobs) -> None:
    with pytest.raises(SegmentationError, match="configuration '2d' is not 3D; use 3d_fullres"):
        _made(configuration="2d")
    with pytest.raises(SegmentationError, match="refines the segmentation of 3d_lowres"):
        _made(configuration="3d_cascade_fullres")
    with pytest.raises(SegmentationError, match=r"there is no fold 5 in .*; give 0 to 4, or 'all'"):
        _made(fold=5).do_split()
    labels = {"background": 0, "whole": [1, 2], "back": 2}
    people = {"adnext": {"name": "AD", "target": "diagnosis", "classes": ["CN", "AD"]}}
    for content, message in (({"labels": labels}, "defines 'whole' as a region"), (people, "has labels of people")):
        with pytest.raises(SegmentationError, match=message):
            load(TRAINERS, "ADNeXtSegUNetBTrainer")(_plans(), "3d_fullres", 0, content, torch.device("cpu"))


def test_what_a_user_can_mend_is_one_line_under_nnunets_commands_and_other_faults_stay_tracebacks(
    blobs: Blobs, capsys, tmp_path, monkeypatch
) -> None:
    monkeypatch.delenv("ADNEXT_SETTINGS")
    network = build_segmenter(NetworkSettings(name="unet_b"), "unet", 1, 3, (32, 32, 32))
    keys = network.state_dict()
    wrong = {"lacks.pth": {"network_weights": {}}, "other.pth": {"weights": {}}}
    wrong["shape.pth"] = {"network_weights": {key: value[..., :1] for key, value in keys.items()}}
    for name, content in wrong.items():
        torch.save(content, tmp_path / name)
    (tmp_path / "text.pth").write_text("no checkpoint")
    says = {
        "lacks.pth": r"lacks.pth does not fit the network: Key encoder\S+ is missing in the pretrained model weights;",
        "shape.pth": r"shape.pth does not fit the network: The shape of the parameters of key \S+ is not the same;",
        "other.pth": r"other.pth is no checkpoint of nnU-Net \(KeyError\); check -pretrained_weights",
        "text.pth": r"text.pth is no checkpoint of nnU-Net \(UnpicklingError\)",
    }
    for name, message in says.items():
        with pytest.raises((AssertionError, KeyError, pickle.UnpicklingError)) as caught:
            load_pretrained_weights(network, str(tmp_path / name))
        show_error(*caught._excinfo)
        (line,) = capsys.readouterr().err.splitlines()
        assert re.match(rf"error: {re.escape(str(tmp_path))}/{message}", line)
    with pytest.raises(AdnextError) as refused:
        _made("ADNeXtTrainer_T")  # learns of people
    show_error(*refused._excinfo)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and "says what to classify" in line
    with pytest.raises(torch.OutOfMemoryError) as short:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
    show_error(*short._excinfo)
    assert capsys.readouterr().err.startswith("error: the GPU's memory ran out; take a smaller batch_size")
    full = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "checkpoint_latest.pth"))
    show_error(OSError, full, None)
    (line,) = capsys.readouterr().err.splitlines()
    assert [line] == [f"error: {said}" for said in mending.problem(full)] and "free some space" in line
    with pytest.raises(ZeroDivisionError) as fault:
        _ = 1 / 0
    show_error(*fault._excinfo)
    assert "Traceback" in capsys.readouterr().err


def test_nnunets_own_trainer_is_untouched_by_the_plugin(blobs: Blobs) -> None:
    trainer = _made("nnUNetTrainer")
    assert type(trainer) is nnUNetTrainer
    assert list(trainer.configuration_manager.patch_size) == [32, 28, 32] and trainer.num_epochs == 1000
    trainer.num_epochs = trainer.num_iterations_per_epoch = trainer.num_val_iterations_per_epoch = 1
    trainer.run_training()
    checkpoint = torch.load(blobs.fold("nnUNetTrainer") / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    assert "adnext_segmentation" not in checkpoint["init_args"]["plans"]["configurations"]["3d_fullres"]


def test_fewer_cases_are_part_of_more_and_depend_on_the_seed_alone() -> None:
    cases = [f"case_{number}" for number in range(30)]
    few, more = take_cases(cases, 5, 42), take_cases(cases[::-1], 20, 42)
    assert set(few) < set(more) and len(few) == 5 and len(more) == 20
    assert take_cases(cases, 5, 43) != few


def test_as_many_folds_are_drawn_as_are_asked_for(blobs: Blobs, monkeypatch) -> None:
    splits = blobs.prepared / "splits_final.json"
    before = splits.read_text() if splits.is_file() else None
    splits.unlink(missing_ok=True)
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({**SHORT, "folds": 6}))
    training, held_out = _made(fold=5).do_split()
    assert len(json.loads(splits.read_text())) == 6
    assert len(training) + len(held_out) == CASES and not set(training) & set(held_out)
    splits.unlink()
    if before is not None:
        splits.write_text(before)


def test_a_patch_is_rounded_up_and_may_be_half_as_large_again(blobs: Blobs, monkeypatch) -> None:
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"patch_scale": 1.5}))
    trainer = _made("ADNeXtSegMedNeXtV2Trainer")
    assert list(trainer.configuration_manager.patch_size) == [48, 48, 48]
    assert trainer.configuration_manager.batch_size == 2 and trainer.enable_deep_supervision


def test_rates_are_those_of_the_recipes() -> None:
    amaes = SegmentationSettings().schedule_settings
    assert (SegmentationSettings().epochs * SegmentationSettings().steps_per_epoch, amaes.epochs) == (2500, 11)
    rates = {name: trainer.settings.learning_rate for name, trainer in TABLE.items()}
    assert rates["ADNeXtSegUNetBTrainer"] == rates["ADNeXtSegUNetXLTrainer"] == 1e-4
    assert (rates["ADNeXtSegMedNeXtLTrainer"], rates["ADNeXtSegMedNeXtMTrainer"]) == (5e-4, 6e-4)
    v2 = TABLE["ADNeXtSegMedNeXtV2WideTrainer"].settings
    assert (v2.learning_rate, v2.warmup_epochs, v2.epochs, v2.deep_supervision) == (1e-3, 50, 300, True)
