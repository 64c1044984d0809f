"""Curves of a run, as TensorBoard, MLflow and Weights & Biases read them back, and nothing of people in them."""

import json
import struct
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from adnext_plugin.cli import train
from adnext_plugin.errors import AdnextWarning, SettingsError
from adnext_plugin.training import loggers
from adnext_plugin.training.loggers import Watchers, require_loggers

DATASET, TRAINER = "Dataset301_Toy", "ADNeXtTrainer_T"


@pytest.mark.skipif(sys.platform == "win32", reason="MLflow's folders are named by URIs of POSIX")
def test_each_logger_has_the_curves_and_the_recipe_and_nothing_of_people(toy, tmp_path, monkeypatch) -> None:
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    options = [word for name in loggers.NAMES for word in ("--logger", name)]
    settings = ["--set", "epochs=2", "--set", "augmentation=none", "--skip-audit", "a secret reason"]
    assert train.main([DATASET, "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu", *settings, *options]) == 0
    fold = toy.results / DATASET / f"{TRAINER}__ADNeXtPlans__3d_fullres" / "fold_0"
    from adnext_plugin.training.weights import read_checkpoint

    logged = read_checkpoint(fold / "checkpoint_final.pth")["logging"]
    expected = {(key, epoch + 1): logged[key][epoch] for key in ("train_losses", "val_auc", "lrs") for epoch in (0, 1)}

    events = EventAccumulator(str(fold / "tensorboard")).Reload()
    curves = {(key, one.step): one.value for key in events.Tags()["scalars"] for one in events.Scalars(key)}
    client = MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("adnext").experiment_id])
    of_mlflow = {
        (key, one.step): one.value
        for key in run.data.metrics
        for one in client.get_metric_history(run.info.run_id, key)
    }
    (stored,) = fold.glob("wandb/offline-run-*/run-*.wandb")
    of_wandb = {}
    for record in _records_of_wandb(stored.read_bytes()):
        if record.WhichOneof("record_type") == "history":
            row = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
            of_wandb |= {(key, row["_step"]): value for key, value in row.items()}
    for found in (curves, of_mlflow, of_wandb):
        assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-6)
    assert run.data.params["epochs"] == "2" and run.data.params["trainer"] == TRAINER
    assert not {name for name in run.data.params if name in ("skip_audit", "covariates", "pretrained_weights")}

    subjects = pd.read_csv(toy.preprocessed / DATASET / "subjects.csv", dtype=str)
    secrets = [*subjects["case_id"], *subjects["subject_id"], "secret reason", str(toy.preprocessed), DATASET]
    sent = [*(fold / "tensorboard").rglob("*"), *(tmp_path / "mlruns").rglob("*"), stored]
    contents = [path.read_bytes() for path in sent if path.is_file()]
    assert contents and not [text for text in secrets for content in contents if text.encode() in content]


def _records_of_wandb(content: bytes) -> Iterator[Any]:
    """Records of an offline run: a header of 7 bytes, then a log of LevelDB, whose blocks are of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    place, begun = 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        begun += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(begun)
            begun = b""


def test_a_logger_that_fails_is_done_without(tmp_path: Path, monkeypatch) -> None:
    class Failing:
        def __init__(self, *_: object) -> None:
            self.told = 0

        def log(self, key: str, value: float, epoch: int) -> None:
            self.told += 1
            raise ConnectionError("the server is gone\nand more")

    monkeypatch.setitem(loggers.KINDS, "tensorboard", Failing)
    watchers = Watchers(["tensorboard"], tmp_path, "run", 0)
    watchers.log("epoch_end_timestamps", 1.0, 0)  # is no curve
    with pytest.warns(AdnextWarning, match=r"--logger tensorboard is no longer told: ConnectionError: .* gone$"):
        watchers.log("val_auc", np.float64(0.5), 0)
    watchers.log("val_auc", 0.5, 1)
    watchers.close()


def test_loggers_that_do_not_exist_or_are_not_installed_are_named(monkeypatch) -> None:
    with pytest.raises(SettingsError, match="no logger 'tensorbord'; did you mean 'tensorboard'"):
        require_loggers(["tensorbord"])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SettingsError, match="export MLFLOW_TRACKING_URI="):
        require_loggers(["mlflow"])
    monkeypatch.setattr(loggers, "find_spec", lambda name: None if name == "wandb" else find_spec(name))
    with pytest.raises(SettingsError, match=r'wandb is not installed; pip install "adnext_plugin\[wandb\]"'):
        require_loggers(["wandb"])
