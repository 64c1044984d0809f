"""Objectives that take every network do take every network; a hybrid is made of any masked objective."""

import math
from dataclasses import replace
from importlib.metadata import entry_points

import numpy as np
import pandas as pd
import pytest
import torch

from adnext_plugin.batch import Batch
from adnext_plugin.errors import SettingsError, UnknownNameError
from adnext_plugin.plan import NetworkSettings, Plan, PreprocessingSettings
from adnext_plugin.pretraining.contrast.objective import ContrastiveObjective
from adnext_plugin.pretraining.contrast.options import ContrastiveOptions
from adnext_plugin.pretraining.hybrid.objective import HybridObjective
from adnext_plugin.pretraining.hybrid.options import HybridOptions
from adnext_plugin.pretraining.masked_autoencoder.objective import FCMAEObjective
from adnext_plugin.pretraining.masked_autoencoder.options import FCMAEOptions
from adnext_plugin.pretraining.proxy.objective import ProxyObjective
from adnext_plugin.pretraining.proxy.options import ProxyOptions
from adnext_plugin.registry import NETWORKS, OBJECTIVES
from adnext_plugin.trainers.variants.hybrid import ADNeXtHybridTrainer_UNetB

LARGER = {"liu_cnn": 96, "polimi_cnn": 96}  # than 64³
OURS = sorted(entry.name for entry in entry_points(group=NETWORKS) if entry.module.startswith("adnext_plugin."))


def _plan(name: str, size: tuple[int, int, int]) -> Plan:
    return Plan(preprocessing=PreprocessingSettings(input_size_voxels=size), network=NetworkSettings(name=name))


@pytest.mark.parametrize("name", OURS)
def test_every_network_can_be_contrasted_and_taught_what_is_known(name: str) -> None:
    size = (LARGER.get(name, 64),) * 3
    with torch.device("meta"):  # shapes without arithmetic
        scans = torch.zeros(3, 1, *size)
        projected = ContrastiveObjective(ContrastiveOptions()).build(_plan(name, size), 1)
        assert projected(scans).shape == (3, 128) and projected.projector.layers[0].out_features == 512
        assert any(key.startswith("encoder.") for key in projected.state_dict())
        taught = ProxyObjective(ProxyOptions()).build(_plan(name, size), 1)
        assert taught(scans).shape == (3, 3)


SIZE = (64, 32, 32)
FCMAE = {"mask_ratio": 0.5, "decoder_width": 8, "sparse_convolution": ["halo"] * 4}
ROWS = pd.DataFrame({"subject_id": ["a", "b", "c"], "age": [60.0, 64.0, np.nan]})
SEEDS = [(1, 0, index) for index in range(3)]


def _batch(objective: HybridObjective) -> Batch:
    scans = torch.rand(3, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    change = objective.unchanged_views(lambda image, seed: image)
    images = torch.stack([change(scan, seed) for seed, scan in enumerate(scans)])
    return Batch(images, torch.zeros(3), torch.from_numpy(objective.labels(ROWS)), torch.arange(3))


def test_a_hybrid_is_the_weighed_sum_of_what_its_parts_say_of_the_same_network() -> None:
    options = HybridOptions(masked_options=FCMAE, reconstruction_weight=2.0, contrast_weight=0.5)
    hybrid = HybridObjective(options).fitted(ROWS)
    torch.manual_seed(0)
    network = hybrid.build(_plan("adnext_t", SIZE), 1)
    batch = _batch(hybrid)
    assert batch.images.shape == (3, 3, 1, *SIZE)
    masked = FCMAEObjective(FCMAEOptions(**FCMAE)).loss(network, batch._replace(images=batch.images[:, 0]), SEEDS)
    contrast = ContrastiveObjective(ContrastiveOptions(projector_norm="batch"))
    of_views = contrast.loss(network, batch._replace(images=batch.images[:, 1:]), SEEDS)
    loss = hybrid.loss(network, batch, SEEDS)
    torch.testing.assert_close(loss, 2 * masked + 0.5 * of_views)
    loss.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.eval()
    with torch.no_grad():
        scores = hybrid.scores([hybrid.outputs(network, batch, SEEDS)])
    assert scores["loss"] == pytest.approx(2 * scores["reconstruction"] + 0.5 * scores["contrast loss"])
    assert 0 <= scores["matched"] <= 1


def test_a_u_net_fills_in_the_blocks_of_amaes_and_contrasts_at_once() -> None:
    options = ADNeXtHybridTrainer_UNetB.settings.options | {"masked_options": {"token_voxels": 8}}
    hybrid = HybridObjective(HybridOptions(**options)).fitted(ROWS)
    torch.manual_seed(0)
    network = hybrid.build(_plan("unet_b", SIZE), 1)
    batch = _batch(hybrid)
    assert batch.images.shape == (3, 4, 1, *SIZE)  # what is seen, what is asked for, and two views
    with torch.no_grad():
        loss = hybrid.loss(network, batch, SEEDS)
        masked = hybrid._masked.loss(network, batch._replace(images=batch.images[:, :2]), SEEDS)
    assert masked.isfinite() and loss > masked
    assert {"encoder", "projector"} < {name for name, _ in network.named_children()}


CODE = '''
import numpy as np
import torch

from adnext_plugin.networks.build import build_network
from adnext_plugin.pretraining.objective import NoOptions, Objective
from adnext_plugin.settings import PretrainingSettings


class Mirror(Objective[NoOptions]):
    """Tell the mean of a scan from its mirror image; fed two views, with a label of its own."""

    settings = PretrainingSettings(objective="mirror")
    options_type = NoOptions

    def build(self, plan, in_channels):
        return build_network(plan.network, in_channels, 1, plan.preprocessing.input_size_voxels)

    def views(self, augmentation):
        return lambda image, seed: torch.stack([augmentation(image, seed), image.flip(-1)])

    def unchanged_views(self, augmentation):
        return self.views(lambda image, seed: image)

    def labels(self, rows):
        return np.full((len(rows), 1), 7, dtype=np.float32)

    def losses(self, network, batch, seeds):
        assert batch.images.shape[1] == 2 and (batch.covariates == 7).all()
        return (network(batch.images[:, 1])[:, 0] - batch.images[:, 0].mean(dim=(1, 2, 3, 4))).square()

    def report(self, network, evidence, folder):
        assert set(evidence.scores) == {"loss"}
        return {"mirrored": [batch.images.shape[1] for batch, _ in evidence.held_out]}
'''


def test_another_masked_objective_is_plugged_in_with_its_own_views_and_labels(install, tmp_path) -> None:
    install("mirror_package", CODE, {OBJECTIVES: {"mirror": "Mirror"}})
    hybrid = HybridObjective(HybridOptions(masked="mirror", projector_widths=(8, 4))).fitted(ROWS)
    assert hybrid.options.masked == "mirror"
    network = hybrid.build(_plan("tiny_densenet", SIZE), 1)
    batch = _batch(hybrid)
    assert batch.images.shape[:2] == (3, 4) and batch.covariates.shape == (3, 2)
    assert hybrid.losses(network, batch, SEEDS).shape == (3,) and hybrid.loss(network, batch, SEEDS).isfinite()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"contrast_weight": 0}, "contrast_weight must be above 0, got 0.0; for one of the two alone"),
        ({"reconstruction_weight": math.nan}, "reconstruction_weight must be above 0, got nan"),
        ({"masked": "hybrid"}, "must be an objective that reconstructs scans, such as fcmae, not hybrid"),
        ({"sigmas": {"age": 0}}, "the width for 'age' must be above 0"),
        ({"masked_options": {"mask_rato": 0.5}}, "masked_options of fcmae: unknown key 'mask_rato'; did you mean"),
        ({"masked": "fcma"}, "no objective 'fcma'; did you mean 'fcmae'"),
    ],
)
def test_an_impossible_hybrid_is_one_line(options: dict, message: str) -> None:
    with pytest.raises((SettingsError, UnknownNameError), match=message) as error:
        HybridObjective(HybridOptions(**options))
    assert "\n" not in str(error.value)


def test_a_hybrid_says_what_its_parts_cannot_do() -> None:
    hybrid = HybridObjective(HybridOptions(masked_options=FCMAE))
    with pytest.raises(SettingsError, match="'tiny_densenet' is not an AD-NeXt"):
        hybrid.build(_plan("tiny_densenet", SIZE), 1)
    plan, device = _plan("adnext_t", SIZE), torch.device("cpu")
    one = replace(HybridObjective.settings, batch_size=1)
    with pytest.raises(SettingsError, match="batch_size of at least 2"):
        hybrid.settled(plan, 1, one, device)
    odd = HybridObjective(HybridOptions(masked_options=FCMAE, contrast_augmentation="cutut"))
    with pytest.raises(UnknownNameError, match="did you mean 'cutout'"):
        odd.settled(plan, 1, HybridObjective.settings, device)
