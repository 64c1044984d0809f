"""Whole runs of the trainers on the toy cohort, through nnU-Net's own entry points."""

import hashlib
import json
import math
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from sklearn.metrics import roc_auc_score

from adnext_plugin.cli import evaluate, train
from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import AdnextError, SettingsError, WeightsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.paths import hook_dir
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.registry import TRAINERS, load, registered_names
from adnext_plugin.splits.folds import ensure_splits
from adnext_plugin.trainers import lifecycle
from adnext_plugin.trainers.fold_data import open_data
from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.training.weights import load_encoder, read_checkpoint

DATASET = "Dataset301_Toy"
FAST = {"epochs": 3, "learning_rate": 1e-3, "augmentation": "paper"}


def _trainer(monkeypatch, *, resume: bool = False, name: str = "ADNeXtTrainer_T", fold: int | str = 0, **settings):
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({**FAST, **settings}))
    return get_trainer_from_args(DATASET, "3d_fullres", fold, name, "ADNeXtPlans", resume, torch.device("cpu"))


def _hash(folder: Path, name: str = "checkpoint_final.pth") -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(read_checkpoint(folder / name)["network_weights"].items()):
        digest.update(key.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def test_every_registered_trainer_is_found_by_nnunet_and_survives_pickling(toy, monkeypatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    for name in registered_names(TRAINERS):
        # nnU-Net forgets the module after each search, and finds the same class in the next
        found = recursive_find_trainer_class_by_name(name)
        assert found is load(TRAINERS, name) and found.__name__ == name
        assert pickle.loads(pickle.dumps(found)) is found
    assert recursive_find_trainer_class_by_name(name) is found


def test_the_figure_1_variants_build_what_their_names_say(toy, monkeypatch) -> None:
    for kernel, downsampling in ((3, "max"), (5, "strided"), (7, "avg")):
        trainer = _trainer(monkeypatch, name=f"ADNeXtTrainer_B_k{kernel}_{downsampling}")
        assert trainer.plan.network.name == "adnext_b"
        assert trainer.plan.network.options["kernel_size"] == kernel
        assert trainer.plan.network.options["downsampling"] == downsampling


@pytest.mark.parametrize(("settings", "at_a_time"), [({"batch_size": 5}, 5), ({"batch_size": 5, "accumulate": 2}, 3)])
def test_kernels_are_measured_for_what_goes_through_the_network_at_once(
    toy, monkeypatch, settings: dict, at_a_time: int
) -> None:
    asked: list[int] = []

    def measure(network: object, size: object, batch: int, *_) -> dict:
        asked.append(batch)
        return {}

    monkeypatch.setattr(lifecycle, "fastest_plans", measure)
    _trainer(monkeypatch, **settings).initialize()
    assert asked == [at_a_time]


def test_convolutions_are_measured_and_judged_under_the_settings_that_they_are_trained_with(toy, monkeypatch) -> None:
    # as nnU-Net leaves them
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    found: list[tuple[bool, bool]] = []

    def measure(*_) -> dict:
        found.append((torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic))
        return {}

    monkeypatch.setattr(lifecycle, "fastest_plans", measure)
    trainer = _trainer(monkeypatch)
    trainer.initialize()
    assert found == [(False, True)]
    # nnU-Net's --val sets them again, and trains nothing
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    trainer.perform_actual_validation()
    assert not torch.backends.cudnn.benchmark and torch.backends.cudnn.deterministic


def test_training_on_a_cpu_uses_as_many_threads_as_openmp_is_told(toy, monkeypatch) -> None:
    before = torch.get_num_threads()
    try:
        for told, used in (("3", 3), ("", usable_cpus())):
            monkeypatch.setenv("OMP_NUM_THREADS", told)
            _trainer(monkeypatch)
            assert torch.get_num_threads() == used
    finally:
        torch.set_num_threads(before)


def test_loaders_of_the_same_cases_hold_their_volumes_once(toy) -> None:
    data = open_data(toy.preprocessed / DATASET, "ADNeXtPlans", "3d_fullres")
    cases = data.parts["train"]
    store = data.store(cases)
    assert store.keep_in_memory() and data.store(cases) is store and data.store(cases)[0] is store[0]
    assert data.store(cases[1:]) is not store


@pytest.mark.parametrize(("name", "damaged"), [("ADNeXtTrainer_T", True), ("ADNeXtTrainer_T_Small", False)])
def test_an_interrupted_run_ends_with_the_same_weights_as_one_that_was_not(
    toy, monkeypatch, capsys, name: str, damaged: bool
) -> None:
    straight = _trainer(monkeypatch, name=name, warmup_epochs=1)
    straight.run_training()
    folder = Path(straight.output_folder)
    expected, expected_best = _hash(folder), _hash(folder, "checkpoint_best.pth")

    interrupted = _trainer(monkeypatch, name=name, warmup_epochs=1)  # starts anew in the same folder
    interrupted.on_train_start()
    for _ in range(2):
        interrupted.run_epoch()
    interrupted.on_epoch_start()
    interrupted.on_train_epoch_start()
    interrupted.train_step(next(interrupted.dataloader_train))  # and is gone in the middle of the third epoch
    assert not (folder / "checkpoint_final.pth").exists()

    monkeypatch.setenv("nnUNet_n_proc_DA", "2")
    latest = folder / "checkpoint_latest.pth"
    if damaged:
        content = bytearray(latest.read_bytes())
        content[len(content) // 2] ^= 1
        latest.write_bytes(content)
        with pytest.raises(WeightsError, match=r"checkpoint_latest\.pth is damaged"):
            _trainer(monkeypatch, name=name, warmup_epochs=1).load_checkpoint(str(latest))  # which is not to go on
    resumed = _trainer(monkeypatch, resume=True, name=name, warmup_epochs=1)
    resumed.load_checkpoint(str(latest))
    assert resumed.current_epoch == (1 if damaged else 2)
    assert ("latest.pth is damaged: it is not what" in capsys.readouterr().out) == damaged
    resumed.run_training()
    assert _hash(folder) == expected
    assert _hash(folder, "checkpoint_best.pth") == expected_best
    assert len(list(folder.glob("earlier_run_*/checkpoint_final.pth"))) == 1
    assert sorted(path.name for path in folder.glob("*.pth")) == ["checkpoint_best.pth", "checkpoint_final.pth"]


def test_a_fold_says_on_which_devices_it_was_trained_not_what_the_machine_has(toy, monkeypatch) -> None:
    def recorded(trainer) -> str:
        return json.loads((Path(trainer.output_folder) / "run.json").read_text())["device"]

    first = _trainer(monkeypatch, epochs=2)
    with monkeypatch.context() as machine:  # that has a GPU, which is not trained on
        machine.setattr(torch.cuda, "is_available", lambda: True)
        machine.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA H100")
        first.on_train_start()
    first.run_epoch()
    here = recorded(first)
    assert re.fullmatch(r"cpu \S.*", here)
    assert f"Trains on {here}" in Path(first.log_file).read_text()
    state = read_checkpoint(Path(first.output_folder) / "checkpoint_latest.pth")
    assert state["adnext"]["device"] == here
    state["adnext"]["device"] = "cuda:0 NVIDIA H100"
    resumed = _trainer(monkeypatch, resume=True, epochs=2)
    resumed.load_checkpoint(state)
    resumed.on_train_start()
    assert recorded(resumed) == f"cuda:0 NVIDIA H100, then {here}"
    assert resumed._notes().provenance.device == recorded(resumed)


def test_the_inflation_meter_looks_at_every_epoch_and_changes_nothing(toy, monkeypatch) -> None:
    def left_by(trainer) -> tuple[str, str, bytes]:
        folder = Path(trainer.output_folder)
        trainer.perform_actual_validation()
        table = (folder / "validation" / "predictions.csv").read_bytes()
        return _hash(folder), _hash(folder, "checkpoint_best.pth"), table

    plain = _trainer(monkeypatch)
    plain.run_training()
    expected = left_by(plain)

    metered = _trainer(monkeypatch, inflation_meter=True)
    metered.on_train_start()
    for _ in range(2):
        metered.run_epoch()
    state = torch.get_rng_state()
    metered.current_epoch = 2
    metered._meter_epoch()  # of an epoch that is then interrupted
    assert torch.equal(torch.get_rng_state(), state)
    folder = Path(metered.output_folder)
    resumed = _trainer(monkeypatch, resume=True, inflation_meter=True)
    resumed.load_checkpoint(str(folder / "checkpoint_latest.pth"))
    resumed.run_training()
    assert left_by(resumed) == expected

    epochs = {int(path.stem.removeprefix("epoch_")): path for path in (folder / "inflation_meter").iterdir()}
    assert sorted(epochs) == list(range(FAST["epochs"]))
    kept = json.loads((folder / "validation" / "summary.json").read_text())["best_epoch"]
    final = pd.read_csv(folder / "validation" / "predictions.csv")
    pd.testing.assert_frame_equal(pd.read_csv(epochs[kept]), final[final["part"] == "val"].reset_index(drop=True))
    # a run anew takes none of these for its own
    _trainer(monkeypatch).on_train_start()
    assert not (folder / "inflation_meter").exists()
    with pytest.raises(SettingsError, match="leave out protocol=paper"):
        _trainer(monkeypatch, inflation_meter=True, protocol="paper")


def test_cross_validation_through_the_commands_learns_the_toy_task_and_reports_it(toy, capsys) -> None:
    settings = [
        "--set",
        "epochs=40",
        "--set",
        "learning_rate=5e-4",
        "--set",
        "batch_size=2",
        "--set",
        "augmentation=none",
    ]
    assert train.main([DATASET, "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", "-device", "cpu", *settings]) == 0
    run = toy.results / DATASET / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres"
    metrics = json.loads((run / "crossval_results" / "metrics.json").read_text())
    pooled = pd.read_csv(run / "crossval_results" / "predictions.csv")
    subjects = pd.read_csv(toy.preprocessed / DATASET / "subjects.csv")
    assert sorted(pooled["case_id"]) == sorted(subjects["case_id"])
    assert metrics["subjects"] == 16 and len(pooled) == 17
    by_subject = pooled.groupby("subject_id").agg({"target": "first", "prob_AD": "mean"})
    expected = roc_auc_score(by_subject["target"] == "AD", by_subject["prob_AD"])
    assert metrics["scores"]["auc_pooled"]["value"] == pytest.approx(expected, abs=1e-12)
    assert metrics["scores"]["auc_pooled"]["value"] > 0.9
    assert metrics["protocol"] == "honest" and "warning" not in metrics
    for name in ("roc.png", "confusion.png"):
        assert (run / "crossval_results" / name).read_bytes().startswith(b"\x89PNG")
    output = capsys.readouterr().out
    assert "age+sex" in output and "ETA" in output
    _check_what_is_said_of_a_fold(output, run / "fold_2")
    # finished folds are left alone
    before = (run / "fold_0" / "checkpoint_final.pth").stat().st_mtime_ns
    assert train.main([DATASET, "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", "-device", "cpu", "--c"]) == 0
    assert (run / "fold_0" / "checkpoint_final.pth").stat().st_mtime_ns == before
    _check_files_of_a_fold(run / "fold_0", subjects)
    _check_continuing_with_other_settings(run)
    (run / "fold_3" / "validation" / "predictions.csv").unlink()
    assert evaluate.main([DATASET, "-tr", "ADNeXtTrainer_T"]) == 2
    assert "no predictions of fold 3" in capsys.readouterr().err


def _check_what_is_said_of_a_fold(output: str, fold: Path) -> None:
    """Cases, an epoch where nobody watches a bar, the held-out score. What nnU-Net says is in the fold's log."""
    after = output.partition("\nFold 2: ")[2].partition("\nFold 3: ")[0].splitlines()
    assert len(after) == 3
    assert after[0].endswith("to choose the epoch on") and after[1].startswith("epoch 1/")
    assert re.match(r"Held-out fold 2: AUC [\d.]+, .* by weights of epoch \d+, the best on selection\)$", after[2])
    (log,) = fold.glob("training_log*.txt")
    for theirs in ("Please cite", "plan.json settings"):
        assert theirs in log.read_text() and theirs not in output
    assert "Searching" not in output and "Using device" not in output


def test_further_seeds_are_runs_of_their_own_on_the_same_folds(toy, capsys) -> None:
    arguments = [DATASET, "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", "-device", "cpu", "--seeds", "2"]
    name = "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres"
    run, further = toy.results / DATASET / name, toy.results / "seed_8" / DATASET / name
    assert train.main([*arguments, "--seed", "7", "--set", "epochs=1", "--set", "augmentation=none"]) == 0
    metrics = json.loads((run / "crossval_results" / "metrics.json").read_text())
    by_seed = metrics["seeds"]["scores"]["auc_mean_of_folds"]["by_seed"]
    assert metrics["seeds"]["seeds"] == [7, 8]
    assert by_seed[0] == metrics["scores"]["auc_mean_of_folds"]["value"]
    settings = [json.loads((folder / "fold_3" / "run.json").read_text())["settings"] for folder in (run, further)]
    assert settings[1] == settings[0] | {"seed": 8} and settings[0]["epochs"] == 1
    assert _hash(run / "fold_0") != _hash(further / "fold_0")
    assert "2 seeds (7, 8)" in capsys.readouterr().out
    assert 'id="seeds"' in (run / "crossval_results" / "report.html").read_text()
    (further / "fold_2" / "validation" / "summary.json").unlink()
    assert evaluate.main([DATASET, "-tr", "ADNeXtTrainer_T", "--resamples", "100"]) == 0
    assert "note: seed 8 is left out" in capsys.readouterr().out
    alone = json.loads((run / "crossval_results" / "metrics.json").read_text())
    assert alone["seeds"] is None and alone["scores"].keys() == metrics["scores"].keys()


def _check_continuing_with_other_settings(run: Path) -> None:
    again = [DATASET, "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", "-device", "cpu", "--c", "--set"]
    before = read_checkpoint(run / "fold_2" / "checkpoint_final.pth")["network_weights"]
    assert train.main([*again, "evaluate_with=final"]) == 0
    summaries = [json.loads((run / f"fold_{fold}" / "validation" / "summary.json").read_text()) for fold in range(4)]
    assert {summary["evaluated_checkpoint"] for summary in summaries} == {"checkpoint_final.pth"}
    after = read_checkpoint(run / "fold_2" / "checkpoint_final.pth")["network_weights"]
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert train.main([*again, "learning_rate=0.5"]) == 2


def _check_files_of_a_fold(fold: Path, subjects: pd.DataFrame) -> None:
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert summary["evaluated_checkpoint"] == "checkpoint_best.pth"
    assert (fold / "progress.png").stat().st_size > 1000
    # who has which diagnosis is nowhere but in subjects.csv and the tables of predictions
    checkpoint = read_checkpoint(fold / "checkpoint_final.pth")
    texts = [repr({key: value for key, value in checkpoint.items() if key != "network_weights"})]
    files = {*fold.rglob("*.json"), *fold.glob("*.txt"), *fold.parent.glob("*.json")} - {fold / "trained_on.json"}
    texts += [path.read_text() for path in files]
    for case in subjects["case_id"]:
        assert not any(case in text for text in texts)
    # that file names the cases it compares, and whose and what they are only by digests
    trained_on = json.loads((fold / "trained_on.json").read_text())["cases"]
    assert sorted(trained_on) == sorted(subjects["case_id"])
    for _, row in subjects.iterrows():
        noted = trained_on[row["case_id"]]
        assert len(noted["label"]) == len(noted["subject"]) == 16
        assert not {row["diagnosis"], row["subject_id"]} & set(noted.values())


def test_the_paper_protocol_trains_on_more_selects_on_the_held_out_fold_and_says_so(toy, monkeypatch, capsys) -> None:
    arguments = [DATASET, "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", "-device", "cpu", "--protocol", "paper"]
    assert train.main([*arguments, "--set", "epochs=1"]) == 0
    run = toy.results / DATASET / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres"
    for path in (run / "crossval_results" / "metrics.json", run / "fold_1" / "validation" / "summary.json"):
        assert "OPTIMISTIC" in path.read_text()
    assert set(pd.read_csv(run / "crossval_results" / "predictions.csv")["protocol"]) == {"paper"}
    assert "OPTIMISTIC" in capsys.readouterr().out
    honest = _trainer(monkeypatch, name="ADNeXtTrainer_S").do_split()
    paper = _trainer(monkeypatch, name="ADNeXtTrainer_S", protocol="paper").do_split()
    assert sorted(honest[0] + honest[1]) == paper[0]
    assert not set(paper[0]) & set(paper[1])


def test_fold_all_trains_on_everybody_and_holds_nobody_out(toy, monkeypatch) -> None:
    trainer = _trainer(monkeypatch, fold="all", epochs=1)
    trainer.run_training()
    trainer.perform_actual_validation()
    folder = Path(trainer.output_folder)
    assert len(trainer.do_split()[0]) == 17
    assert (folder / "checkpoint_final.pth").is_file() and not (folder / "checkpoint_best.pth").exists()
    assert json.loads((folder / "validation" / "summary.json").read_text())["metrics"] == {}


def test_class_weights_make_every_class_count_the_same(toy, monkeypatch) -> None:
    targets = np.repeat([0, 1], [30, 10])
    weights = {
        name: _trainer(monkeypatch, class_weights=name).build_loss(targets).weight
        for name in ("inverse_frequency", "none", "counts")
    }
    assert weights["none"] is None
    assert torch.allclose(weights["inverse_frequency"] * torch.tensor([30.0, 10.0]), torch.tensor(15.0))
    assert weights["counts"][0] > weights["counts"][1]  # what the released code does


def test_patience_ends_a_run_that_no_longer_gets_better(toy, monkeypatch) -> None:
    trainer = _trainer(monkeypatch, epochs=30, patience_epochs=2, learning_rate=1e-30, weight_decay=0.0)
    trainer.run_training()
    assert trainer.current_epoch == 3  # the first was the best, then two without a change
    assert read_checkpoint(Path(trainer.output_folder) / "checkpoint_final.pth")["current_epoch"] == 3


def test_covariates_reach_the_head_and_pretrained_weights_pass_them_by(toy, monkeypatch) -> None:
    plain = _trainer(monkeypatch, epochs=1)
    plain.run_training()
    weights = Path(plain.output_folder) / "checkpoint_final.pth"
    kept = str(weights.rename(toy.results / "plain.pth"))
    trainer = _trainer(monkeypatch, epochs=1, covariates=["age", "sex"], pretrained_weights=kept)
    trainer.run_training()
    trainer.perform_actual_validation()
    checkpoint = read_checkpoint(Path(trainer.output_folder) / "checkpoint_final.pth")
    assert checkpoint["network_weights"]["covariate_head.weight"].abs().min() > 0
    ages = trainer._data.rows(trainer.do_split()[0])["age"]
    scale = checkpoint["adnext"]["covariate_scale"]
    assert scale["names"] == ("age", "sex") and math.isclose(scale["means"][0], ages.mean())
    with pytest.raises(SettingsError, match="gives the target"):
        _trainer(monkeypatch, covariates=["diagnosis"]).on_train_start()


def test_a_cut_larger_than_the_volumes_is_refused(toy, monkeypatch) -> None:
    with pytest.raises(SettingsError, match=r"crop_voxels \[64, 32, 32\] is larger"):
        _trainer(monkeypatch, crop_voxels=[64, 32, 32]).initialize()


def test_blocks_are_computed_again_where_asked_for_by_networks_that_can(toy, monkeypatch) -> None:
    trainer = _trainer(monkeypatch, recompute=True)
    trainer.initialize()
    assert trainer.network.encoder.recompute
    other = build_network(NetworkSettings(name="resnet10"), 1, 2, (32, 32, 32))
    monkeypatch.setattr(ADNeXtTrainer, "build_network", classmethod(lambda *_: other))
    with pytest.raises(SettingsError, match="recompute: network adnext_t has no parts that it can compute again"):
        _trainer(monkeypatch, recompute=True).initialize()


def test_a_run_continues_only_as_the_run_it_was(toy, monkeypatch) -> None:
    first = _trainer(monkeypatch, epochs=1)
    first.run_training()
    folder = Path(first.output_folder)
    final = str(folder / "checkpoint_final.pth")
    with pytest.raises(SettingsError, match="cannot continue with seed=7"):
        _trainer(monkeypatch, resume=True, seed=7, epochs=1).load_checkpoint(final)
    with pytest.raises(WeightsError, match="another network"):
        _trainer(monkeypatch, resume=True, name="ADNeXtTrainer_S", epochs=1).load_checkpoint(final)
    # settings that were given then need not be given again
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    monkeypatch.delenv("ADNEXT_SETTINGS")
    again = get_trainer_from_args(DATASET, "3d_fullres", 0, "ADNeXtTrainer_T", "ADNeXtPlans", True, torch.device("cpu"))
    again.load_checkpoint(final)
    assert (again.settings.learning_rate, again.num_epochs) == (1e-3, 1)


def test_a_network_that_blows_up_stops_with_advice(toy, monkeypatch) -> None:
    with pytest.raises(AdnextError, match="lower the learning rate"):
        _trainer(monkeypatch, learning_rate=1e30, epochs=3).run_training()


def test_pretrained_weights_start_the_encoder_and_are_reported(toy, monkeypatch) -> None:
    source = _trainer(monkeypatch, epochs=1)
    source.run_training()
    final = Path(source.output_folder) / "checkpoint_final.pth"
    kept = toy.results / "source.pth"
    kept.write_bytes(final.read_bytes())
    with pytest.raises(WeightsError, match="lies in the folder of the run"):
        _trainer(monkeypatch, pretrained_weights=str(final), epochs=1).on_train_start()
    assert final.is_file()
    trainer = _trainer(monkeypatch, pretrained_weights=str(kept), epochs=1, seed=1)
    trainer.on_train_start()
    wanted = read_checkpoint(kept)["network_weights"]
    for name, tensor in trainer.network.state_dict().items():
        if name.startswith("encoder."):
            assert torch.equal(tensor, wanted[name])
    log = Path(trainer.log_file).read_text()
    assert "tensors matched, 4 new (head.seg_layers.0.weight" in log
    # in another fold than the weights' own the encoder has seen held-out people: the checkpoint lets the audit tell
    other = _trainer(monkeypatch, pretrained_weights=str(kept), epochs=1, fold=1)
    other.run_training()
    seen = read_checkpoint(Path(other.output_folder) / "checkpoint_final.pth")["adnext"]["pretraining_data"]
    assert seen["complete"] and seen["subject_count"] == other._data.subjects["subject_id"].nunique()


def test_with_a_decay_of_zero_only_the_head_learns(toy, monkeypatch) -> None:
    trainer = _trainer(monkeypatch, layer_decay=0.0, epochs=2, covariates=["age"])
    trainer.initialize()
    before = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    trainer.run_training()
    after = trainer.network.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {name for name in before if ".encoder." not in name}
    assert all(parameter.grad is None for parameter in trainer.network.network.encoder.parameters())
    assert trainer.logger.local_logger.my_fantastic_logging["lrs"][0] == 1e-3
    with pytest.raises(SettingsError, match="layer_decay must be 0 to 1"):
        _trainer(monkeypatch, layer_decay=1.5)


def test_stock_nnunet_accepts_our_folds(toy, monkeypatch) -> None:
    trainer = _trainer(monkeypatch, epochs=1)
    trainer.initialize()
    stock = nnUNetTrainer.do_split(trainer)
    subjects = pd.read_csv(toy.preprocessed / DATASET / "subjects.csv", dtype=str)
    folds = ensure_splits(toy.preprocessed / DATASET, subjects, trainer.task)
    assert stock == (folds[0]["train"], folds[0]["val"])


def test_nnunets_prediction_ends_in_one_line_that_names_the_right_command(toy, monkeypatch) -> None:
    trainer = _trainer(monkeypatch, epochs=1)
    trainer.run_training()
    run = Path(trainer.output_folder).parent
    scans, output = toy.raw / DATASET / "imagesTr", toy.results / "out"
    arguments = ["-i", str(scans), "-o", str(output), "-m", str(run), "-f", "0", "-device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["nnUNetv2_predict_from_modelfolder", *arguments])
    with pytest.raises(SystemExit) as ended:  # of which Python prints the message, and no traceback
        predict_entry_point_modelfolder()
    assert isinstance(ended.value, AdnextError)
    message = str(ended.value.code)
    assert "\n" not in message and "ADNeXtTrainer_T gives an answer for a whole scan" in message
    assert "adnext_predict -i" in message
    assert list(output.iterdir()) == []


@pytest.mark.slow
def test_nnunets_comparisons_of_segmentations_fail_and_leave_results_as_they_are(toy, monkeypatch) -> None:
    trainer = _trainer(monkeypatch, epochs=1)
    trainer.run_training()
    trainer.perform_actual_validation()
    run = Path(trainer.output_folder).parent
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    which = [DATASET, "-c", "3d_fullres", "-tr", "ADNeXtTrainer_T", "-p", "ADNeXtPlans", "-f", "0"]
    for command in ("nnUNetv2_accumulate_crossval_results", "nnUNetv2_find_best_configuration"):
        done = subprocess.run([Path(sys.executable).parent / command, *which], capture_output=True, text=True)
        assert done.returncode != 0
        after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        assert {path: content for path, content in after.items() if path in before} == before
        added = {path.relative_to(run).as_posix() for path in after.keys() - before.keys()}
        assert added == {f"crossval_results_folds_0/{name}.json" for name in ("dataset", "plans")}


def test_a_compiled_network_is_saved_begun_with_and_continued_as_a_plain_one(toy, monkeypatch, tmp_path) -> None:
    trainer = _trainer(monkeypatch, epochs=2)
    trainer.on_train_start()
    trainer.network = torch.compile(trainer.network, backend="eager")
    trainer.run_epoch()
    latest = Path(trainer.output_folder) / "checkpoint_latest.pth"
    saved = torch.load(latest, weights_only=True)
    plain = dict(saved["network_weights"])
    assert plain.keys() == read_checkpoint(latest)["network_weights"].keys()
    assert not [name for name in plain if "_orig_mod" in name]
    renamed = (
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"_orig_mod.module.{name}",
        lambda name: name.replace("encoder.", "encoder._orig_mod."),
    )
    for number, rename in enumerate(renamed):
        compiled = {**saved, "network_weights": {rename(name): tensor for name, tensor in plain.items()}}
        path = tmp_path / f"compiled_{number}.pth"
        torch.save(compiled, path)
        assert read_checkpoint(path)["network_weights"].keys() == plain.keys()
        first = _trainer(monkeypatch, epochs=2)
        first.initialize()
        taken = load_encoder(first.network, path).matched
        assert taken and all(torch.equal(first.network.state_dict()[name], plain[name]) for name in taken)
        for state in (str(path), compiled):
            resumed = _trainer(monkeypatch, epochs=2)
            resumed.load_checkpoint(state)
            assert resumed.current_epoch == 1
            assert all(torch.equal(tensor, plain[name]) for name, tensor in resumed.network.state_dict().items())


def test_a_run_killed_after_its_last_state_leaves_the_same_figure_of_progress(toy, monkeypatch) -> None:
    whole = _trainer(monkeypatch, epochs=2)
    whole.run_training()
    figure = Path(whole.output_folder) / "progress.png"
    expected = figure.read_bytes()
    killed = _trainer(monkeypatch, epochs=2)
    save = killed.save_checkpoint

    def save_and_die(path: str) -> None:
        save(path)
        if path.endswith("checkpoint_latest.pth") and killed.current_epoch == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(killed, "save_checkpoint", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        killed.run_training()
    resumed = _trainer(monkeypatch, resume=True, epochs=2)
    resumed.load_checkpoint(str(Path(killed.output_folder) / "checkpoint_latest.pth"))
    assert resumed.current_epoch == 2  # there is no epoch left to draw
    resumed.run_training()
    assert figure.read_bytes() == expected


def test_nnunets_own_command_finds_our_plans_without_being_told_their_name(toy, monkeypatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    arguments = DATASET, "3d_fullres", 0, "ADNeXtTrainer_T", "nnUNetPlans", False, torch.device("cpu")
    trainer = get_trainer_from_args(*arguments)
    trainer.initialize()
    assert trainer.plan.prepared_by == "adnext"
    training, _ = trainer.get_dataloaders()
    training.start(epoch=0)
    assert next(training).images.shape[1:] == (1, 32, 32, 32)
    assert "ADNeXtTrainer_T__nnUNetPlans__3d_fullres" in trainer.output_folder


@pytest.mark.slow
def test_data_prepared_by_stock_nnunet_train_under_the_stock_command(toy) -> None:
    folder = Path(sys.executable).parent
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "nnUNet_extTrainer": str(hook_dir())}
    environment["ADNEXT_SETTINGS"] = json.dumps({"epochs": 1, "augmentation": "anatomical"})
    environment["nnUNet_preprocessed"] = str(toy.results / "preprocessed")
    plan = [folder / "nnUNetv2_plan_and_preprocess", "-d", "301", "-c", "3d_fullres", "-np", "1", "-npfp", "1"]
    subprocess.run(plan, env=environment, check=True, capture_output=True)
    command = [folder / "nnUNetv2_train", "301", "3d_fullres", "1", "-tr", "ADNeXtTrainer_T", "-device", "cpu"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert "The data were prepared by nnU-Net's own planner" in done.stdout
    run = toy.results / DATASET / "ADNeXtTrainer_T__nnUNetPlans__3d_fullres" / "fold_1"
    predicted = pd.read_csv(run / "validation" / "predictions.csv")
    assert set(predicted["part"]) == {"val", "selection"}
    weights = read_checkpoint(run / "checkpoint_final.pth")
    assert weights["trainer_name"] == "ADNeXtTrainer_T"
