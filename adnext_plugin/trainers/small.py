"""AD-NeXt for cohorts of a few hundred scans, without pre-training: the recipe that docs/recipes.md arrives at."""

from adnext_plugin.records import NetworkSettings, TrainerSettings
from adnext_plugin.trainers.base import ADNeXtTrainer

OPTIONS = {"stem": "convolutional", "head_norm": "batch", "init": "fan_in", "drop_path_rate": 0.0, "mirror": True}
SMALL = TrainerSettings(
    epochs=20,
    batch_size=8,
    learning_rate=3e-3,
    warmup_epochs=2,
    weight_decay=0.05,
    augmentation="inside",
    precise_batch_norm=True,
    # the rate has fallen to 0 by then; the best of 20 epochs on a few dozen people is as often as not a lucky early one
    evaluate_with="final",
)


class ADNeXtTrainer_T_Small(ADNeXtTrainer):
    """AD-NeXt-T with a convolutional stem and batch norm in the head, 0.76 M parameters."""

    network_settings = NetworkSettings(name="adnext_t", options=OPTIONS)
    settings = SMALL


class ADNeXtTrainer_S_Small(ADNeXtTrainer):
    """AD-NeXt-S with a convolutional stem and batch norm in the head, 3.7 M parameters."""

    network_settings = NetworkSettings(name="adnext_s", options=OPTIONS)
    settings = SMALL


class ADNeXtTrainer_B_Small(ADNeXtTrainer):
    """AD-NeXt-B with a convolutional stem and batch norm in the head, 24 M parameters."""

    network_settings = NetworkSettings(name="adnext_b", options=OPTIONS)
    settings = SMALL
