"""AD-NeXt in its four sizes, under the paper's recipe."""

from adnext_plugin.plan import NetworkSettings
from adnext_plugin.trainers.labelled import ADNeXtTrainer


class ADNeXtTrainer_T(ADNeXtTrainer):
    """AD-NeXt-T, 0.76 M parameters."""

    network_settings = NetworkSettings(name="adnext_t")


class ADNeXtTrainer_S(ADNeXtTrainer):
    """AD-NeXt-S, 3.7 M parameters."""

    network_settings = NetworkSettings(name="adnext_s")


class ADNeXtTrainer_B(ADNeXtTrainer):
    """AD-NeXt-B, 24 M parameters."""

    network_settings = NetworkSettings(name="adnext_b")


class ADNeXtTrainer_L(ADNeXtTrainer):
    """AD-NeXt-L, 71 M parameters."""

    network_settings = NetworkSettings(name="adnext_l")
