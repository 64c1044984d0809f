"""Checkpoints of other projects, on files in their formats: names, axes, terms, and what is refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from monai.networks import nets

from adnext_plugin.cli import weights
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.families.unet import resenc_l
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.registry import WEIGHT_SOURCES, load, registered_names
from adnext_plugin.training.foreign.source import cover, reversed_axes
from adnext_plugin.training.weights import load_encoder, read_checkpoint

Tensors = dict[str, torch.Tensor]


def _tensor(*shape: int) -> torch.Tensor:
    """A tensor of any size that takes four bytes in a file."""
    return torch.full((1,), 0.5).expand(shape) if shape else torch.tensor(0)


def _with_bias(name: str, *shape: int) -> Iterator[tuple[str, torch.Tensor]]:
    yield f"{name}.weight", _tensor(*shape)
    yield f"{name}.bias", _tensor(shape[0])


def _unet(width: int) -> Tensors:
    found: Tensors = {"rec_head.weight": _tensor(1, width, 1, 1, 1), "decoder.upsample1.weight": _tensor(2, 2)}
    for level in range(5):
        name = "in_conv" if level == 0 else f"encoder_conv{level}"
        out, before = width * 2**level, 1 if level == 0 else width * 2 ** (level - 1)
        for number, into in ((1, before), (2, out)):
            found |= dict(_with_bias(f"encoder.{name}.conv{number}.conv", out, into, 3, 3, 3))
            found |= dict(_with_bias(f"encoder.{name}.conv{number}.norm", out))
    return found


def _mednext_m() -> Tensors:
    depths, expansions, width = (3, 4, 4, 4, 4), (2, 3, 4, 4, 4), 32
    found = dict(_with_bias("encoder.stem", width, 1, 1, 1, 1)) | {"out_0.conv_out.weight": _tensor(2, 2)}

    def block(name: str, out: int, wider: int) -> None:
        found.update(_with_bias(f"{name}.conv1", width, 1, 3, 3, 3))
        found.update(_with_bias(f"{name}.norm", width))
        found.update(_with_bias(f"{name}.conv2", width * wider, width, 1, 1, 1))
        found.update(_with_bias(f"{name}.conv3", out, width * wider, 1, 1, 1))

    for level, (depth, expansion) in enumerate(zip(depths, expansions, strict=True)):
        for number in range(depth):
            container = "bottleneck" if level == 4 else f"enc_block_{level}"
            block(f"encoder.{container}.{number}", width, expansion)
        if level < 4:
            block(f"encoder.down_{level}", 2 * width, expansions[level + 1])
            found.update(_with_bias(f"encoder.down_{level}.res_conv", 2 * width, width, 1, 1, 1))
            width *= 2
    return found


def _shapes_of(network: Callable[[], torch.nn.Module]) -> Tensors:
    with torch.device("meta"):
        named = network().state_dict()
    return {name: _tensor(*tensor.shape) for name, tensor in named.items()}


def _resnet(depth: str) -> Tensors:
    return _shapes_of(lambda: getattr(nets, depth)(spatial_dims=3, n_input_channels=1, feed_forward=False))


def _vit() -> Tensors:
    sizes = {"hidden_size": 768, "mlp_dim": 3072, "num_layers": 12, "num_heads": 12}
    return _shapes_of(lambda: nets.ViT(1, (96, 96, 96), (16, 16, 16), **sizes))


def _resenc() -> Tensors:
    return {name: tensor for name, tensor in _shapes_of(lambda: resenc_l(1, 2)).items() if name.startswith("encoder.")}


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _asparagus(tensors: Tensors) -> Tensors:
    """As asparagus names blocks of nnU-Net's library, each tensor once."""
    once = {name: tensor for name, tensor in tensors.items() if ".all_modules." not in name}
    return {
        name.replace("stem.convs.0.", "stem.conv1.").replace(".norm.", ".norm_op."): tensor
        for name, tensor in once.items()
    }


OPENMIND_PLAN = {
    "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None},
    "pretrain_plan": {"transpose_backward": [0, 1, 2]},
}
# a checkpoint as its project writes it: source, content, our network, tensors taken, tensors not used
FILES: dict[str, tuple[str, Callable[[], Any], str, int, int]] = {
    "AMAES U-Net B, flat and compiled": ("amaes", lambda: _under("model._orig_mod.", _unet(32)), "unet_b", 80, 2),
    "FOMO25 U-Net XL": (
        "amaes",
        lambda: {"state_dict": _under("model.", _unet(64)), "epoch": 99, "pytorch-lightning_version": "2.4.0"},
        "unet_xl",
        80,
        2,
    ),
    "AMAES MedNeXt M": ("amaes", lambda: _under("model.", _mednext_m()), "mednext_m_k3", 194, 1),
    "asparagus ResEnc": (
        "amaes",
        lambda: {"state_dict": _under("model.", _asparagus(_resenc()))},
        "resenc_l",
        448,
        0,
    ),
    "OpenMind": (
        "openmind",
        lambda: {
            "network_weights": {**_resenc(), "decoder.stages.0.weight": _tensor(2)},
            "nnssl_adaptation_plan": OPENMIND_PLAN,
            "optimizer_state": {},
        },
        "resenc_l",
        448,
        1,
    ),
    "3D-Neuro-SimCLR": (
        "neuro_simclr",
        lambda: {
            "epoch": 100,
            "model_state_dict": {
                **_under("module.encoder.", _resnet("resnet18")),
                "module.projector.0.weight": _tensor(4),
            },
            "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 3e-4}]},
        },
        "resnet18",
        123,
        1,
    ),
    "BrainIAC ViT": (
        "brainiac",
        lambda: {"state_dict": _under("model.backbone.", _vit()) | {"model.projection_head.0.weight": _tensor(2)}},
        "vit_small_mim",
        149,
        25,
    ),
    "BrainIAC ResNet-50": (
        "brainiac",
        lambda: {"state_dict": _under("backbone.", _resnet("resnet50"))},
        "resnet50",
        322,
        0,
    ),
}


def _written(path: Path, content: Any) -> str:
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize("name", FILES)
def test_every_tensor_of_an_encoder_has_a_place_here(name: str) -> None:
    source, content, network, taken, not_used = FILES[name]
    meta = _on_meta(content())
    converted = load(WEIGHT_SOURCES, source)().convert(meta, Path("theirs.pth"))
    coverage = cover(converted, Path("theirs.pth"))
    assert (converted.network.name, len(coverage.taken), coverage.not_used) == (network, taken, not_used)
    assert coverage.missing == ()


def _on_meta(content: Any) -> Any:
    """The same without a single number, which costs nothing to turn about."""
    if isinstance(content, torch.Tensor):
        return content.to("meta")
    return {key: _on_meta(value) for key, value in content.items()} if isinstance(content, dict) else content


def test_every_source_has_a_file_here_and_says_its_terms() -> None:
    ours = registered_names(WEIGHT_SOURCES)
    assert ours == sorted({source for source, *_ in FILES.values()})
    for name in ours:
        source = load(WEIGHT_SOURCES, name)
        assert min(map(len, (source.title, source.licence, source.prepared, source.cite))) > 2


def test_an_imported_file_starts_a_classifier_and_carries_its_terms(tmp_path: Path, capsys) -> None:
    theirs = _written(tmp_path / "theirs.pth", FILES["AMAES U-Net B, flat and compiled"][1]())
    out = tmp_path / "ours.pth"
    assert weights.main([theirs, "--from", "amaes", "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "80 tensors taken, 0 missing, 2 not used" in said and "CC BY-NC-ND" in said and '"unet_b"' in said
    origin = read_checkpoint(out)["adnext_weights"]
    assert "RAS, 1 mm" in origin["prepared"] and origin["tensors"] == {"taken": 80, "missing": [], "not_used": 2}
    network = build_network(NetworkSettings(name="unet_b"), 1, 2, (32, 32, 32))
    report = load_encoder(network, out)
    assert len(report.matched) == 80 and report.dropped == ()
    assert float(network.encoder.stages[4][1].convs[1].norm.weight[7]) == 0.5
    assert weights.main([theirs, "--from", "amaes", "-o", str(out)]) == 2  # nothing is overwritten unasked
    assert "exists" in capsys.readouterr().err


def test_weights_in_safetensors_keep_what_is_said_of_them(tmp_path: Path) -> None:
    content = FILES["AMAES U-Net B, flat and compiled"][1]()
    theirs, out = _written(tmp_path / "theirs.pth", content), tmp_path / "ours.safetensors"
    assert weights.main([theirs, "--from", "amaes", "-o", str(out)]) == 0
    checkpoint = read_checkpoint(out)
    assert len(checkpoint["network_weights"]) == 80 and checkpoint["adnext_weights"]["source"] == "amaes"
    out.write_bytes(out.read_bytes()[:-1000])
    assert weights.main([str(out), "--from", "openmind", "-o", str(tmp_path / "no.pth")]) == 2


def test_what_is_no_such_file_ends_in_one_line(tmp_path: Path, capsys) -> None:
    whole = tmp_path / "whole.ckpt"
    _written(whole, {"state_dict": _unet(32)})
    truncated = tmp_path / "truncated.ckpt"
    truncated.write_bytes(whole.read_bytes()[:-200])
    code = tmp_path / "code.ckpt"
    torch.save({"state_dict": _unet(32), "hparams": Path("/")}, code)
    few = tmp_path / "few.ckpt"
    _written(few, {"state_dict": dict(list(_unet(32).items())[:-6])})
    strange = tmp_path / "strange.ckpt"
    _written(strange, {"state_dict": {"a.weight": _tensor(3)}})
    primus = tmp_path / "primus.pth"
    plan = {"architecture_plans": {"arch_class_name": "PrimusM"}}
    _written(primus, {"network_weights": {"eva.pos_embed": _tensor(3)}, "nnssl_adaptation_plan": plan})
    cases = [
        (truncated, "amaes", "is damaged: it was cut short or altered"),
        (code, "amaes", "is not a checkpoint that can be read safely"),
        (few, "amaes", "covers 68 of 80 tensors of the encoder of unet_b, less than 95%"),
        (strange, "amaes", "neither of a U-Net nor of a MedNeXt"),
        (strange, "brainiac", "neither of a ViT nor of a ResNet"),
        (primus, "openmind", "is of the network PrimusM"),
        (whole, "amaes_", "no weight_source 'amaes_'"),
        (tmp_path / "nowhere.ckpt", "amaes", "does not exist"),
    ]
    for path, source, expected in cases:
        assert weights.main([str(path), "--from", source, "-o", str(tmp_path / "out.pth")]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert expected in line, line
    assert not (tmp_path / "out.pth").exists()


def test_a_few_missing_tensors_keep_their_initial_values_and_are_named(tmp_path: Path, capsys) -> None:
    # the last norm: 2 of 40 tensors, each twice here
    theirs = {name: tensor for name, tensor in _unet(32).items() if "encoder_conv4.conv2.norm" not in name}
    out = tmp_path / "ours.pth"
    assert weights.main([_written(tmp_path / "theirs.pth", theirs), "--from", "amaes", "-o", str(out)]) == 0
    assert "76 tensors taken, 4 missing (encoder.stages.4.1.convs.1.norm.weight" in capsys.readouterr().out
    assert float(read_checkpoint(out)["network_weights"]["encoder.stages.4.1.convs.1.norm.weight"].mean()) == 1.0


def test_filters_for_volumes_of_x_y_z_give_the_same_on_volumes_of_z_y_x() -> None:
    generator = torch.Generator().manual_seed(0)
    volume_xyz = torch.randn(1, 2, 5, 6, 7, generator=generator)
    theirs = torch.randn(3, 2, 3, 2, 4, generator=generator)
    ours = reversed_axes({"weight": theirs})["weight"]
    expected = F.conv3d(volume_xyz, theirs)
    found = F.conv3d(volume_xyz.permute(0, 1, 4, 3, 2), ours)
    torch.testing.assert_close(found.permute(0, 1, 4, 3, 2), expected)


def test_positions_of_brainiac_stay_with_their_patches() -> None:
    theirs = _vit()
    grid_xyz = torch.arange(216.0).view(6, 6, 6)
    theirs["patch_embedding.position_embeddings"] = grid_xyz.reshape(1, 216, 1).expand(1, 216, 768)
    converted = load(WEIGHT_SOURCES, "brainiac")().convert({"state_dict": _under("backbone.", theirs)}, Path("a"))
    ours = converted.tensors["encoder.patch_embedding.position_embeddings"][0, :, 0].view(6, 6, 6)
    assert float(ours[1, 2, 5]) == float(grid_xyz[5, 2, 1])  # z, y, x and x, y, z of one patch
    assert float(converted.tensors["encoder.blocks.3.attn.qkv.bias"].abs().max()) == 0.0
    assert json.dumps(dict(converted.network.options))


def test_a_transposition_of_openmind_is_undone() -> None:
    plan = {**OPENMIND_PLAN, "pretrain_plan": {"transpose_backward": [1, 0, 2]}}
    theirs = {**_on_meta(_resenc()), "encoder.stem.convs.0.conv.weight": torch.arange(27.0).view(1, 1, 3, 3, 3)}
    content = {"network_weights": theirs, "nnssl_adaptation_plan": plan}
    converted = load(WEIGHT_SOURCES, "openmind")().convert(content, Path("a"))
    ours = converted.tensors["encoder.stem.convs.0.conv.weight"]
    torch.testing.assert_close(ours, theirs["encoder.stem.convs.0.conv.weight"].transpose(2, 3))
