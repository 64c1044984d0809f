"""Every network declared in entry_points.txt: its size, and what training and sharing it rest on."""

import configparser
import hashlib
import io
import math
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from monai.networks.nets import ViTAutoEnc
from torch import nn
from torchvision.models.video import swin3d_t as torchvision_swin3d_t
from torchvision.ops import StochasticDepth

from adnext_plugin.errors import PathsError, SettingsError, WeightsError
from adnext_plugin.explanations.grad_cam import GradCAM, GradCAMSettings
from adnext_plugin.explanations.method import ExplainedNetwork
from adnext_plugin.explanations.occlusion import Occlusion, OcclusionSettings
from adnext_plugin.networks.classifier import has_batch_norm
from adnext_plugin.networks.costs import count_parameters
from adnext_plugin.networks.families import liu, swin3d, unet
from adnext_plugin.networks.families.liu import liu_cnn, polimi_cnn
from adnext_plugin.networks.families.minit import _cut_into_blocks, minit, nit
from adnext_plugin.networks.families.vit import vit_small_mim
from adnext_plugin.registry import NETWORKS
from adnext_plugin.task import Task
from adnext_plugin.training.layer_rates import parameter_groups
from adnext_plugin.training.schedule import RATE_SHARE


class Expected(NamedTuple):
    """Parameters with so many outputs at a cube of so many voxels, and the smallest cube a network takes."""

    parameters: int
    outputs: int
    counted_at: int
    smallest: int


EXPECTED = {
    "adnext_t": Expected(756_242, 2, 128, 32),
    "adnext_s": Expected(3_715_138, 2, 128, 32),
    "adnext_b": Expected(24_358_530, 2, 128, 32),
    "adnext_l": Expected(71_248_130, 2, 128, 32),
    "densenet121": Expected(11_244_674, 2, 128, 32),
    "linear": Expected(2 * 128**3 + 2, 2, 128, 16),
    "liu_cnn": Expected(89_747_779, 3, 96, 71),
    "mednext_b_k3": Expected(2_636_194, 2, 128, 17),
    "mednext_b_k5": Expected(2_777_314, 2, 128, 17),
    "mednext_l_k3": Expected(46_752_320 + 2 * 513, 2, 128, 17),
    "mednext_m_k3": Expected(12_491_712 + 2 * 513, 2, 128, 17),
    "mednext_v2": Expected(46_878_082, 2, 128, 17),
    "mednext_v2_wide": Expected(186_637_058, 2, 128, 17),
    "minit": Expected(3_632_962, 2, 64, 32),
    "nit": Expected(1_925_036, 2, 80, 16),
    "polimi_cnn": Expected(24_736_067, 3, 96, 87),
    "resenc_l": Expected(90_296_576 + 2 * 321, 2, 128, 64),
    "resnet10": Expected(14_357_442, 2, 128, 16),
    "resnet18": Expected(33_161_922, 2, 128, 16),
    "resnet34": Expected(63_471_554, 2, 128, 16),
    "resnet50": Expected(46_163_010, 2, 128, 16),
    "resnet101": Expected(85_209_154, 2, 128, 16),
    "swin3d_t": Expected(27_852_008, 2, 80, 32),
    "swin_unetr_48": Expected(8_062_002 + 2 * 769, 2, 96, 32),
    "tiny_densenet": Expected(1_462_873, 1, 80, 16),
    "unet_b": Expected(14_134_944 + 2 * 513, 2, 128, 32),
    "unet_xl": Expected(56_526_144 + 2 * 1025, 2, 128, 32),
    "vit_b16": Expected(88_598_018, 2, 128, 32),
    "vit_small_mim": Expected(7_797_900 + 2 * 301, 2, 96, 32),
}
WITH_BATCH_NORM = ("densenet", "resnet")


def _declared() -> dict[str, str]:
    parser = configparser.ConfigParser()
    parser.optionxform = str
    parser.read(Path(__file__).parents[2] / "entry_points.txt")
    return dict(parser[NETWORKS])


DECLARED = _declared()
every_network = pytest.mark.parametrize("name", DECLARED)


def _build(name: str, in_channels: int, num_outputs: int, size: tuple[int, int, int], **options) -> nn.Module:
    return EntryPoint(name, DECLARED[name], NETWORKS).load()(in_channels, num_outputs, size, **options)


def _build_without_data(*arguments, **options) -> nn.Module:
    """Shapes and names only, which takes no time however large the network is."""
    with torch.device("meta"):
        return _build(*arguments, **options)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slowest networks with fewer channels; nothing that is tested by computing hangs on how many there are."""
    for name in ("LIU_STAGES", "POLIMI_STAGES"):
        monkeypatch.setattr(liu, name, tuple(one._replace(width=one.width // 8) for one in getattr(liu, name)))


@pytest.fixture
def narrow_residuals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same of ResEnc-L; not where a scan is empty, whose rounding is blown up the more the fewer there are."""
    monkeypatch.setattr(unet, "RESENC_L_WIDTHS", tuple(width // 8 for width in unet.RESENC_L_WIDTHS))


@every_network
def test_parameters_are_as_published(name: str) -> None:
    expected = EXPECTED[name]  # a new network needs a row
    network = _build_without_data(name, 1, expected.outputs, (expected.counted_at,) * 3)
    assert count_parameters(network) == expected.parameters


@every_network
def test_the_smallest_input_is_taken_and_smaller_ones_are_refused(name: str) -> None:
    smallest = EXPECTED[name].smallest
    size = (smallest, smallest + 32, smallest)
    for in_channels in (1, 2):
        network = _build_without_data(name, in_channels, 3, size).eval()
        assert network(torch.empty(2, in_channels, *size, device="meta")).shape == (2, 3)
    for axis in range(3):
        too_small = [smallest] * 3
        too_small[axis] -= 1
        with pytest.raises(SettingsError, match=rf"needs an input of at least {smallest} voxels per axis") as refusal:
            _build(name, 1, 2, tuple(too_small))
        assert "\n" not in str(refusal.value)


@every_network
def test_all_that_depends_on_the_task_is_outside_the_encoder(name: str) -> None:
    size = (EXPECTED[name].smallest,) * 3
    two, three = (_build_without_data(name, 1, outputs, size) for outputs in (2, 3))
    prefix = f"{two.key_to_encoder}."
    shapes = {key: tensor.shape for key, tensor in three.state_dict().items()}
    differing = [key for key, tensor in two.state_dict().items() if shapes[key] != tensor.shape]
    assert differing and not any(key.startswith(prefix) for key in differing)
    assert any(key.startswith(prefix) for key in shapes)


@every_network
def test_it_can_be_trained_and_shared(narrow, narrow_residuals, name: str) -> None:
    torch.manual_seed(0)
    size = (EXPECTED[name].smallest,) * 3
    network = _build(name, 2, 3, size).train()
    for module in network.modules():
        if isinstance(module, StochasticDepth | nn.Dropout):
            module.eval()  # what is dropped has no gradient
    x = torch.randn(2, 2, *size, requires_grad=True)
    network(x)[0].square().sum().backward()

    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        # a bias before a norm that subtracts the mean has no effect; such biases are part of the published counts
        assert key.endswith("bias") or parameter.grad.norm() > 0, key
    assert x.grad[0].any()
    # only batch norm may let the other sample in
    assert bool(x.grad[1].any()) == has_batch_norm(network) == any(word in name for word in WITH_BATCH_NORM)

    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    copy = _build_without_data(name, 2, 3, size)
    copy.load_state_dict(torch.load(file, weights_only=True), assign=True)
    with torch.no_grad():
        out = network.eval()(x[:1])
        assert out.shape == (1, 3)
        assert torch.equal(copy.eval()(x[:1]), out)


@every_network
def test_occlusion_gives_the_fall_of_its_answer_when_a_box_is_covered(narrow, name: str) -> None:
    torch.manual_seed(0)
    size = EXPECTED[name].smallest
    network = _build(name, 1, 2, (size,) * 3)
    image = np.zeros((1, size, size, size), dtype=np.float32)
    brain = (slice(2, 10),) * 3
    image[(0, *brain)] = np.random.default_rng(0).normal(size=(8, 8, 8))
    task = Task(name="AD", target="diagnosis", classes=("CN", "AD"))
    explained = ExplainedNetwork(network=network, task=task, image_shape=(1, size, size, size))
    box = OcclusionSettings(box_voxels=(size,) * 3, stride_voxels=(size,) * 3)
    found = Occlusion(box)(explained, image, "AD")
    with torch.no_grad():
        before, after = network(torch.from_numpy(np.stack([image, np.zeros_like(image)])))
    fall = float((before[1] - before[0]) - (after[1] - after[0]))
    assert np.unique(found[image[0] == 0]).tolist() == [0]
    # an empty scan is flat, and instance norms blow up the rounding of what is flat
    np.testing.assert_allclose(found[brain][image[(0, *brain)] != 0], fall, rtol=1e-2, atol=1e-5)
    # a layer that still tells places apart is found, and the answer hangs on what is there
    signed = GradCAM(GradCAMSettings(positive_only=False))(explained, image, "AD")
    assert signed.shape == image.shape[1:] and np.ptp(signed) > 0


@pytest.mark.parametrize("name", ["vit_b16", "vit_small_mim", "minit", "nit"])
def test_what_does_not_divide_into_patches_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="a multiple of"):
        _build(name, 1, 2, (100, 96, 96))


@pytest.mark.parametrize(
    "name", [name for name in DECLARED if name.startswith(("vit", "minit", "nit", "swin3d", "densenet"))]
)
def test_a_rate_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"dropout_rate must be in \[0, 1\), got 1"):
        _build(name, 1, 2, (96, 96, 96), dropout_rate=1.0)


def test_sizes_known_for_other_inputs_and_options() -> None:
    with torch.device("meta"):
        assert count_parameters(minit(1, 2, (80, 80, 80))) == 3_648_578
        assert count_parameters(nit(1, 2, (64, 64, 64))) == 1_800_108
        assert count_parameters(nit(1, 2, (80, 80, 80), distillation_token=False)) == 1_923_754
        assert count_parameters(liu_cnn(1, 3, age_branch=True)) == 90_536_771
        assert count_parameters(polimi_cnn(1, 3, norm="batch")) == 24_738_691
        for size in (87, 102):
            assert count_parameters(polimi_cnn(1, 3, (size, 96, 96))) == 24_736_067
        assert count_parameters(polimi_cnn(1, 3, (103, 96, 96))) == 24_736_067 + 512 * 1024
        assert count_parameters(_build("swin3d_t", 3, 2, (80, 80, 80))) == 27_852_008


def test_the_scaled_vit_is_the_encoder_of_monais_masked_image_model() -> None:
    with torch.device("meta"):
        model = ViTAutoEnc(1, 96, 16, hidden_size=300, mlp_dim=1200, num_layers=6, num_heads=12, qkv_bias=True)
        ours = vit_small_mim(1, 2, (96, 96, 96))
    kept = {name: tensor.shape for name, tensor in model.state_dict().items() if "cross_attn" not in name}
    assert sum(shape.numel() for shape in kept.values()) == 8_106_141
    found = {name: tensor.shape for name, tensor in ours.encoder.state_dict().items()}
    assert found == {name: shape for name, shape in kept.items() if "transpose" not in name}
    assert count_parameters(ours.encoder) == 7_797_900


def test_blocks_are_cut_out_in_order() -> None:
    x = torch.randn(2, 3, 16, 32, 48)
    blocks = _cut_into_blocks(x)
    assert blocks.shape == (128, 3, 4, 8, 12)
    torch.testing.assert_close(blocks[64 + 16 * 1 + 4 * 2 + 3], x[1, :, 4:8, 16:24, 36:48])


def test_age_is_taken_where_there_is_a_branch_for_it() -> None:
    torch.manual_seed(0)
    network = liu_cnn(1, 3, (71, 71, 71), age_branch=True).eval()
    features = torch.randn(2, network.hidden.in_features)
    network.encoder = nn.Identity()
    ages = torch.tensor([[60.0], [80.0]])
    with torch.no_grad():
        out = network(features, ages)
        torch.testing.assert_close(network(features, ages + 0.2), out)  # the same half-year
        assert not torch.allclose(network(features, ages + 0.5), out)
        assert torch.isfinite(network(features, torch.tensor([[-1.0], [140.0]]))).all()
    assert network.age.table.shape == (240, 512)
    torch.testing.assert_close(network.age.table[3, :2], torch.tensor([math.sin(3), math.cos(3)]))
    assert network.columns == ("age",) and liu_cnn(1, 3, (71, 71, 71)).columns == ()


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(SettingsError, match="choose from instance, batch"):
        polimi_cnn(1, 2, norm="layer")


@pytest.fixture
def video_weights(tmp_path: Path, monkeypatch) -> Path:
    """A file like torchvision's, under a name and digest of its own."""
    torch.manual_seed(1)
    path = tmp_path / "weights.pth"
    torch.save(torchvision_swin3d_t().state_dict(), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(swin3d, "VIDEO_SHA256_PREFIX", digest[:8])
    return path


def test_video_weights_answer_equal_channels_as_the_video_network_does(video_weights: Path) -> None:
    saved = torch.load(video_weights, weights_only=True)
    video = torchvision_swin3d_t().eval()
    video.load_state_dict(saved)
    video.head = nn.Identity()
    scan = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        expected = video(scan.expand(-1, 3, -1, -1, -1))
        for in_channels in (1, 2, 3, 4):
            network = swin3d.swin3d_t(in_channels, 2, (32, 32, 32), kinetics_weights=str(video_weights)).eval()
            found = network.encoder(scan.expand(-1, in_channels, -1, -1, -1))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_other_files_are_no_video_weights(video_weights: Path, monkeypatch) -> None:
    with pytest.raises(PathsError, match=r"swin3d_t-7615ae03\.pth"):
        swin3d.swin3d_t(1, 2, kinetics_weights="nowhere.pth")
    saved = torch.load(video_weights, weights_only=True)
    torch.save({name: tensor for name, tensor in saved.items() if name != "norm.bias"}, video_weights)
    with pytest.raises(WeightsError, match=r"has SHA-256 .* as torchvision's file"):
        swin3d.swin3d_t(1, 2, kinetics_weights=str(video_weights))
    monkeypatch.setattr(swin3d, "VIDEO_SHA256_PREFIX", "")
    with pytest.raises(WeightsError, match=r"in 1 tensors, the first is norm\.bias"):
        swin3d.swin3d_t(1, 2, kinetics_weights=str(video_weights))
    video_weights.write_bytes(b"not weights")
    with pytest.raises(WeightsError, match="cannot be read"):
        swin3d.swin3d_t(1, 2, kinetics_weights=str(video_weights))


@every_network
def test_layers_share_the_rate_and_no_parameter_is_left_out(name: str) -> None:
    network = _build_without_data(name, 1, 2, (EXPECTED[name].smallest,) * 3)
    encoder = getattr(network, network.key_to_encoder)
    head, *layers = parameter_groups(network, encoder, decay=0.5)
    grouped = [parameter for group in (head, *layers) for parameter in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, network.parameters()))
    assert not {id(parameter) for parameter in encoder.parameters()} & set(map(id, head["params"]))
    assert [group[RATE_SHARE] for group in layers] == [0.5 ** (1 + depth) for depth in range(len(layers))]
    if name.startswith("adnext"):
        assert layers[0]["params"][-1] is encoder.stages[-1][-1].project.bias
        assert layers[-1]["params"][0] is next(encoder.stem.parameters())
