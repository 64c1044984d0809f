"""AD-NeXt for cohorts of a few hundred scans, without pre-training: the recipe that docs/recipes.md arrives at."""

from adnext_plugin.plan import NetworkSettings
from adnext_plugin.plans.advice import SMALL
from adnext_plugin.trainers.labelled import ADNeXtTrainer

OPTIONS = {"stem": "convolutional", "head_norm": "batch", "init": "fan_in", "drop_path_rate": 0.0, "mirror": True}


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
