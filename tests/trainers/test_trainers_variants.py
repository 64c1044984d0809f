"""Trainers of a table are as good as written down: by name, by pickle, by their own words."""

import importlib
import inspect
import json
from collections.abc import Callable
from importlib.metadata import entry_points

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from adnext_plugin.errors import SettingsError
from adnext_plugin.paths import hook_dir
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.registry import TRAINERS, load, registered_names
from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.trainers.lifecycle import RunTrainer

TABLES = [
    f"adnext_plugin.trainers.variants.{name}"
    for name in ("ablations", "adnext", "amaes", "pretraining", "pretraining_ablations", "small")
]
COUNTS = {"ablations": 9, "adnext": 4, "amaes": 11, "pretraining": 4, "pretraining_ablations": 10, "small": 3}


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


def test_a_trainer_that_overrides_the_hook_of_nnunet_that_nobody_calls_is_told_which_one_to_override() -> None:
    class Mine(ADNeXtTrainer):
        @classmethod
        def build_network_architecture(cls, *args, **kwargs):
            return torch.nn.Identity()

    with pytest.raises(SettingsError, match=r"Mine overrides build_network_architecture.*build_network\(cls, plan"):
        Mine({}, "3d_fullres", 0, {})


OVERRIDING = [RunTrainer, ADNeXtTrainer, *(load(TRAINERS, name) for name in registered_names(TRAINERS))]


@pytest.mark.parametrize("trainer", OVERRIDING, ids=lambda trainer: trainer.__name__)
def test_methods_of_nnunet_that_a_trainer_overrides_have_nnunets_parameters(trainer: type) -> None:
    shared = [name for name in dir(nnUNetTrainer) if callable(getattr(nnUNetTrainer, name))]
    differ, overridden = {}, 0
    for name in (name for name in shared if name == "__init__" or not name.startswith("__")):
        overridden += getattr(trainer, name) is not getattr(nnUNetTrainer, name)
        own, theirs = (_parameters(getattr(kind, name)) for kind in (trainer, nnUNetTrainer))
        if own != theirs:
            differ[name] = own, theirs
    # segmentation is nnU-Net's own work
    assert differ == {} and overridden > (20 if issubclass(trainer, RunTrainer) else 10)


def _parameters(method: Callable) -> list[str]:
    """As a caller has them, of a trainer that is made: what is static in nnU-Net may be a method of ours."""
    return [name for name in inspect.signature(method).parameters if name != "self"]


def test_statistics_of_batch_norms_are_settled_on_scans_mixed_by_the_seed(toy, monkeypatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))

    def order(seed: int) -> list[str]:
        monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"seed": seed}))
        arguments = ("Dataset301_Toy", "3d_fullres", 0, "ADNeXtTrainer_T_Small", "ADNeXtPlans", False)
        trainer = get_trainer_from_args(*arguments, torch.device("cpu"))
        trainer.on_train_start()
        settled, (training, _) = trainer._unchanged_training_cases, trainer.do_split()
        served = [training[index] for batch in settled.batches(0) for index in batch.indices]
        drawn = np.random.default_rng(seed).permutation(len(training))
        assert served == [sorted(training)[place] for place in drawn]
        # their volumes take their share of a GPU's memory, or the machine's, once
        stores = [loader._loader.dataset._store for loader in (trainer.dataloader_train, settled)]
        assert stores[0] is stores[1]
        return served

    first = order(1)
    # by name, the cohorts of a merged dataset would not meet in any batch
    assert first != sorted(first) and first == order(1) != order(2)
