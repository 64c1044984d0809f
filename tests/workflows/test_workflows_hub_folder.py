"""One folder for the Hugging Face hub, nnU-Net's pre-training commands and asparagus, read back as they read it."""

import json
from pathlib import Path

import pytest
import torch

from adnext_plugin.cli import weights
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.families import unet
from adnext_plugin.networks.hub import HubNetwork
from adnext_plugin.plan import NetworkSettings, Plan, PreprocessingSettings
from adnext_plugin.records import to_json
from adnext_plugin.run_records import Provenance
from adnext_plugin.training.checkpoint_notes import CheckpointNotes
from adnext_plugin.training.checkpoints import write_checkpoint
from adnext_plugin.training.provenance import provenance
from adnext_plugin.training.weights import load_encoder, read_checkpoint

# of the OpenMind SimCLR checkpoint; nnU-Net reads these fields
PLAN_FIELDS = {
    "architecture_plans",
    "pretrain_plan",
    "pretrain_num_input_channels",
    "recommended_downstream_patchsize",
    "key_to_encoder",
    "key_to_stem",
    "keys_to_in_proj",
    "key_to_lpe",
}
CONFIGURATION_FIELDS = {
    *("data_identifier", "preprocessor_name", "spacing_style", "normalization_schemes", "use_mask_for_norm"),
    *("resampling_fn_data", "resampling_fn_data_kwargs", "resampling_fn_mask", "resampling_fn_mask_kwargs"),
    *("spacing", "patch_size"),
}


def _encoder(path: Path, network: str, size: tuple[int, int, int], **options) -> dict[str, torch.Tensor]:
    """A checkpoint of a pre-training run, and its tensors."""
    plan = Plan(
        preprocessing=PreprocessingSettings(input_size_voxels=size, spacing_mm=(1.0, 1.0, 1.0)),
        network=NetworkSettings(name=network, options=options),
    )
    torch.manual_seed(1)
    tensors = {
        name: tensor
        for name, tensor in build_network(plan.network, 1, 2, size).state_dict().items()
        if name.startswith("encoder.")
    }
    notes = CheckpointNotes(settings={}, best=(0.0, 0.0), best_epoch=None, provenance=Provenance(**provenance()))
    content = {
        "network_weights": {**tensors, "decoder.weight": torch.zeros(2)},
        "adnext": notes.block(),
        "init_args": {
            "plans": {"dataset_name": "Dataset301_IXI", "configurations": {"3d_fullres": {"adnext": to_json(plan)}}},
            "configuration": "3d_fullres",
            "dataset_json": {"channel_names": {"0": "T1w"}},
        },
        "trainer_name": "ADNeXtAMAESTrainer_ResEncL",
    }
    write_checkpoint(content, path)
    return tensors


@pytest.fixture
def small_resenc(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResEnc-L with few channels, so that files stay small."""
    monkeypatch.setattr(unet, "RESENC_L_WIDTHS", (4, 6, 8, 10, 12, 12))


def test_a_resenc_goes_to_the_hub_to_nnunet_and_to_asparagus_and_comes_back(
    small_resenc: None, tmp_path: Path, capsys
) -> None:
    checkpoint, folder = tmp_path / "checkpoint_final.pth", tmp_path / "hub"
    tensors = _encoder(checkpoint, "resenc_l", (64, 64, 64))
    assert weights.main([str(checkpoint), "--to-hub", str(folder), "--licence", "CC BY 4.0"]) == 0
    assert "nnUNetv2_train_pretrained, asparagus" in capsys.readouterr().out
    files = {"README.md", "adaptation_plan.json", "checkpoint_final.pth", "config.json", "model.safetensors"}
    assert {file.name for file in folder.iterdir()} == files

    # the hub
    again = HubNetwork.from_pretrained(folder, local_files_only=True).eval()
    own = again.network.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in tensors.items())
    config = json.loads((folder / "config.json").read_text())
    assert config["preprocessing"]["spacing_mm"] == [1.0, 1.0, 1.0] and config["network"] == "resenc_l"
    page = (folder / "README.md").read_text()
    assert page.startswith("---\n") and '"CC BY 4.0"' in page and "The head is not trained" in page

    # nnU-Net and asparagus: by a reader that runs no code
    theirs = torch.load(folder / "checkpoint_final.pth", weights_only=True)
    plan = theirs["nnssl_adaptation_plan"]
    assert plan == json.loads((folder / "adaptation_plan.json").read_text())
    assert plan.keys() == PLAN_FIELDS and theirs["citations"] == []
    assert plan["architecture_plans"]["arch_class_name"] == "ResEncL"
    configurations = plan["pretrain_plan"]["configurations"]
    assert configurations["onemmiso"].keys() == CONFIGURATION_FIELDS
    assert configurations["onemmiso"]["patch_size"] == [64, 64, 64]
    names = theirs["network_weights"]
    assert set(names) == set(tensors) and len(names) == 448
    assert any(name.startswith(f"{plan['key_to_encoder']}.") for name in names)
    assert all(f"{key}.weight" in names for key in plan["keys_to_in_proj"])
    assert all(name.startswith((plan["key_to_encoder"], plan["key_to_stem"])) for name in names)

    # and here
    classifier = build_network(NetworkSettings(name="resenc_l"), 1, 2, (64, 64, 64))
    assert len(load_encoder(classifier, folder / "checkpoint_final.pth").matched) == 448


def test_another_network_goes_to_the_hub_and_gives_the_same_answers_there(trained, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "hub"
    checkpoint = trained.run / "fold_0" / "checkpoint_best.pth"
    assert weights.main([str(checkpoint), "--to-hub", str(folder)]) == 0
    assert "nnUNet" not in capsys.readouterr().out.partition("read by")[2]
    again = HubNetwork.from_pretrained(folder, local_files_only=True).eval()
    saved = read_checkpoint(checkpoint)["network_weights"]
    own = again.network.state_dict()
    encoder = {name.removeprefix("network."): tensor for name, tensor in saved.items() if ".encoder." in f".{name}"}
    assert encoder and all(torch.equal(own[name], tensor) for name, tensor in encoder.items())
    assert again(torch.zeros(1, 1, 32, 32, 32)).shape == (1, 2)
    assert not (folder / "adaptation_plan.json").exists()
    assert weights.main([str(checkpoint), "--to-hub", str(folder)]) == 2  # nothing is overwritten unasked
    assert weights.main([str(checkpoint), "--to-hub", str(folder), "--overwrite"]) == 0
    (folder / "checkpoint_final.pth").rename(tmp_path / "theirs.pth")
    assert weights.main([str(tmp_path / "theirs.pth"), "--to-hub", str(tmp_path / "other")]) == 2
    assert "was not made by an AD-NeXt trainer" in capsys.readouterr().err
