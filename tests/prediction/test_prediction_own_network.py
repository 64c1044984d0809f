"""A trainer that builds a network of its own predicts, exports and installs like any other, where it is installed."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import Workspace, toy_brain, write_scan

from adnext_plugin.cli import export, install, predict, train
from adnext_plugin.paths import hook_dir
from adnext_plugin.run_folder import RunFolder

TRAINER = """
from torch import nn

from adnext_plugin.trainers.variants.adnext import ADNeXtTrainer_T


class TinyNetworkTrainer(ADNeXtTrainer_T):
    @classmethod
    def build_network(cls, plan, in_channels):
        encoder = nn.Sequential(nn.Conv3d(in_channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        network = nn.Sequential()
        network.add_module("encoder", encoder)
        network.add_module("head", nn.Linear(4, plan.known_task.num_outputs))
        network.key_to_encoder = "encoder"
        return network
"""


def test_a_network_of_a_trainer_is_used_wherever_the_trainer_is_installed(
    toy: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "tiny_network_trainer.py").write_text(TRAINER)
    monkeypatch.setenv("nnUNet_extTrainer", f"{hook_dir()}:{tmp_path / 'mine'}")
    settings = ["--set", "epochs=1", "--set", "augmentation=none"]
    assert train.main(["301", "3d_fullres", "cv", "-tr", "TinyNetworkTrainer", "-device", "cpu", *settings]) == 0
    run = RunFolder.of("Dataset301_Toy", "TinyNetworkTrainer", "ADNeXtPlans", "3d_fullres").path
    # of somebody new, as a run knows whom it was trained on and a bundle does not
    bundle, scan = tmp_path / "tiny.zip", str(write_scan(tmp_path / "new.nii.gz", toy_brain(77, has_hole=True)))
    assert export.main([str(run), "-o", str(bundle), "-device", "cpu", "--without-ranges"]) == 0
    assert install.main([str(bundle), "--into", str(tmp_path)]) == 0
    tables = []
    for number, model in enumerate((run, tmp_path / "tiny")):
        output = tmp_path / f"predicted_{number}"
        assert predict.main(["-i", scan, "-o", str(output), "-m", str(model), "-device", "cpu", "-np", "1"]) == 0
        tables.append(pd.read_csv(output / "predictions.csv"))
    pd.testing.assert_frame_equal(*tables)
    capsys.readouterr()
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    assert install.main([str(bundle), "--into", str(tmp_path), "--name", "again"]) == 2
    shown = capsys.readouterr().err
    assert (
        "of another network than the plan's adnext_t" in shown and "install the package of TinyNetworkTrainer" in shown
    )
