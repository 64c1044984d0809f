"""The networks that AD-NeXt was compared with (its Table 4), under the recipe they were given there.

That is AD-NeXt's own recipe, with the exceptions named here. Source: AD-NeXt, Section 3.1 and Appendix; for ViT-B's
weight decay the released configuration.
"""

from dataclasses import replace

from adnext_plugin.plan import NetworkSettings
from adnext_plugin.trainers.labelled import ADNeXtTrainer


class ADNeXtDenseNet121Trainer(ADNeXtTrainer):
    """DenseNet121, 11 M parameters."""

    network_settings = NetworkSettings(name="densenet121")


class ADNeXtResNet10Trainer(ADNeXtTrainer):
    """ResNet10, 14 M parameters."""

    network_settings = NetworkSettings(name="resnet10")


class ADNeXtResNet34Trainer(ADNeXtTrainer):
    """ResNet34, 63 M parameters."""

    network_settings = NetworkSettings(name="resnet34")


class ADNeXtResNet50Trainer(ADNeXtTrainer):
    """ResNet50, 46 M parameters; not in the table."""

    network_settings = NetworkSettings(name="resnet50")


class ADNeXtResNet101Trainer(ADNeXtTrainer):
    """ResNet101, 85 M parameters."""

    network_settings = NetworkSettings(name="resnet101")


class ADNeXtViTB16Trainer(ADNeXtTrainer):
    """ViT-B/16, 89 M parameters; the paper starts it from a masked autoencoder."""

    network_settings = NetworkSettings(name="vit_b16")
    settings = replace(ADNeXtTrainer.settings, weight_decay=1e-3)


class ADNeXtMedNeXtB3Trainer(ADNeXtTrainer):
    """MedNeXt-B encoder with kernel 3, 2.6 M parameters."""

    network_settings = NetworkSettings(name="mednext_b_k3")
    settings = replace(ADNeXtTrainer.settings, learning_rate=1e-3)


class ADNeXtMedNeXtB5Trainer(ADNeXtTrainer):
    """MedNeXt-B encoder with kernel 5, 2.8 M parameters."""

    network_settings = NetworkSettings(name="mednext_b_k5")
    settings = replace(ADNeXtTrainer.settings, learning_rate=1e-4)
