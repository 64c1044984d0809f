"""Pre-training of networks that work on tokens: SimMIM and MAE, and SwinUNETR's own."""

from dataclasses import replace

from adnext_plugin.plan import NetworkSettings
from adnext_plugin.pretraining.masked_tokens.objective import MAEObjective, SimMIMObjective
from adnext_plugin.pretraining.swinunetr.objective import SwinUNETRObjective
from adnext_plugin.trainers.self_supervised import SelfSupervisedTrainer

VIT_SMALL, VIT_B = NetworkSettings(name="vit_small_mim"), NetworkSettings(name="vit_b16")


class ADNeXtSimMIMTrainer(SelfSupervisedTrainer):
    """SimMIM as Dhinagar et al. 2023 use it, with their small ViT and 90 % masked."""

    network_settings = VIT_SMALL
    settings = SimMIMObjective.settings


class ADNeXtSimMIMTrainer_mask60(ADNeXtSimMIMTrainer):
    """The same with 60 % masked."""

    settings = replace(SimMIMObjective.settings, options={"mask_ratio": 0.6})


class ADNeXtSimMIMTrainer_mask75(ADNeXtSimMIMTrainer):
    """The same with 75 % masked."""

    settings = replace(SimMIMObjective.settings, options={"mask_ratio": 0.75})


class ADNeXtSimMIMTrainer_ViTB16(ADNeXtSimMIMTrainer):
    """SimMIM with ViT-B/16."""

    network_settings = VIT_B


class ADNeXtSimMIMTrainer_Swin3DT(ADNeXtSimMIMTrainer):
    """SimMIM with Video Swin-T."""

    network_settings = NetworkSettings(name="swin3d_t")


class ADNeXtMAETrainer(SelfSupervisedTrainer):
    """A masked autoencoder with ViT-B/16, as in the pre-trained row of AD-NeXt's Table 4."""

    network_settings = VIT_B
    settings = MAEObjective.settings


class ADNeXtMAETrainer_ViTSmall(ADNeXtMAETrainer):
    """A masked autoencoder with the small ViT of Dhinagar et al. 2023."""

    network_settings = VIT_SMALL


class ADNeXtSwinUNETRTrainer(SelfSupervisedTrainer):
    """SwinUNETR's own pre-training of its encoder."""

    network_settings = NetworkSettings(name="swin_unetr_48")
    settings = SwinUNETRObjective.settings
