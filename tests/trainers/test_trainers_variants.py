"""Trainers of a table are as good as written down: by name, by pickle, by their own words."""

import importlib
import inspect
from importlib.metadata import entry_points

import pytest

from adnext_plugin.plan import NetworkSettings, Plan
from adnext_plugin.registry import TRAINERS, load
from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.trainers.lifecycle import RunTrainer

TABLES = [
    f"adnext_plugin.trainers.variants.{name}"
    for name in ("ablations", "adnext", "pretraining", "pretraining_ablations", "small")
]
COUNTS = {"ablations": 9, "adnext": 4, "pretraining": 4, "pretraining_ablations": 10, "small": 3}


@pytest.mark.parametrize("module", TABLES)
def test_every_row_of_a_table_is_declared_and_every_declared_name_is_in_its_table(module: str) -> None:
    table = importlib.import_module(module)
    declared = {entry.name: entry for entry in entry_points(group=TRAINERS) if entry.module == module}
    written_down = {name for name in declared if name in vars(table)}
    assert set(declared) - written_down == set(table.TRAINERS)
    assert len(table.TRAINERS) == COUNTS[module.rpartition(".")[2]]
    for name, trainer in table.TRAINERS.items():
        assert load(TRAINERS, name) is trainer is getattr(table, name)
        assert (trainer.__name__, trainer.__qualname__, trainer.__module__) == (name, name, module)
        assert trainer.__doc__.endswith(".") and trainer.__doc__ != trainer.__base__.__doc__
    with pytest.raises(AttributeError, match="has no attribute 'ADNeXtTrainer_XXL'"):
        _ = table.ADNeXtTrainer_XXL


def test_rows_differ_from_their_class_in_what_they_say_and_in_nothing_else() -> None:
    fcmae = load(TRAINERS, "ADNeXtFCMAETrainer")
    wide, shallow = load(TRAINERS, "ADNeXtFCMAETrainer_B_decoder512"), load(TRAINERS, "ADNeXtFCMAETrainer_B_mask70")
    assert wide.settings_with().options["decoder_width"] == 512 and wide.settings_with().options["mask_ratio"] == 0.6
    assert shallow.settings_with().options["mask_ratio"] == 0.7
    assert wide.settings_with().epochs == fcmae.settings.epochs == 600
    strided = load(TRAINERS, "ADNeXtTrainer_B_k3_strided")
    assert strided.settings is ADNeXtTrainer.settings
    assert strided.network_settings == NetworkSettings(
        name="adnext_b", options={"kernel_size": 3, "downsampling": "strided"}
    )
    assert issubclass(strided, load(TRAINERS, "ADNeXtTrainer_B"))


REQUIRED = {
    "settings": ADNeXtTrainer.settings,
    "plan_key": "training",
    "score_names": {},
    "build_network": classmethod(lambda cls, plan, in_channels: None),
    "batch_loss": lambda self, batch: None,
    "validation_step": lambda self, batch: {},
    "epoch_scores": lambda self, outputs: {},
    "rank_of_epoch": lambda self, scores: (0.0, 0.0),
    "prepare_loss": lambda self: None,
    "perform_actual_validation": lambda self, save_probabilities=False: None,
}


@pytest.mark.parametrize("forgotten", REQUIRED)
def test_a_trainer_that_forgets_what_it_must_say_cannot_be_made(forgotten: str) -> None:
    members = {name: member for name, member in REQUIRED.items() if name != forgotten}
    incomplete, complete = type("Mine", (RunTrainer,), members), type("Mine", (RunTrainer,), REQUIRED)
    assert not inspect.isabstract(complete)
    with pytest.raises(TypeError, match=f"abstract method.*{forgotten}"):
        incomplete({}, "3d_fullres", 0, {})


def test_nnunets_hook_asks_the_class_for_the_network_of_the_plan() -> None:
    asked = []

    class Mine(ADNeXtTrainer):
        @classmethod
        def build_network(cls, plan: Plan, in_channels: int):
            asked.append((cls, plan.network.name, in_channels))
            return super().build_network(plan, in_channels)

    class Configuration:
        configuration = {  # noqa: RUF012  nnU-Net's
            "adnext": {
                "network": {"name": "adnext_t"},
                "preprocessing": {"input_size_voxels": [32, 32, 32]},
                "task": {"name": "X", "kind": "classification", "target": "t", "classes": ["a", "b", "c"]},
            }
        }

    network = Mine.build_network_architecture(None, Configuration, 2, 99, False)
    assert asked == [(Mine, "adnext_t", 2)]
    assert network.head.seg_layers[-1].out_features == 3
