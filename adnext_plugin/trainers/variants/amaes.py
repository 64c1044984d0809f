"""AMAES: networks of its tables, its arms, and the recipe of its released code."""

from dataclasses import replace
from typing import Any

from adnext_plugin.plan import NetworkSettings
from adnext_plugin.pretraining.amaes.objective import AMAESObjective
from adnext_plugin.settings import PretrainingSettings
from adnext_plugin.trainers.self_supervised import SelfSupervisedTrainer
from adnext_plugin.trainers.variants.table import Row, trainer_in, trainers_of

PAPER = AMAESObjective.settings
# torch's defaults of AdamW, and rates that change with every step
RELEASED = replace(PAPER, batch_size=8, weight_decay=0.01, amsgrad=False, schedule_unit="step")
MEDNEXT = replace(PAPER, batch_size=8)
UNET_B, UNET_XL = NetworkSettings(name="unet_b"), NetworkSettings(name="unet_xl")


class ADNeXtAMAESTrainer(SelfSupervisedTrainer):
    """Pre-trains the encoder that the plan names (AD-NeXt-B's if it names none) as AMAES does."""

    settings = PAPER


def _arm(what: str, *, augmentation: str = "none", **options: Any) -> Row:
    """An arm of the paper's ablation: nothing is undone, whatever else it is."""
    settings: PretrainingSettings = replace(PAPER, augmentation=augmentation, options={"reversed": "none", **options})
    return Row(what=f"AMAES, U-Net XL: {what}.", network=UNET_XL, settings=settings)


TRAINERS = trainers_of(
    ADNeXtAMAESTrainer,
    __name__,
    {
        "ADNeXtAMAESTrainer_UNetB": Row(what="Pre-trains AMAES' U-Net B.", network=UNET_B),
        "ADNeXtAMAESTrainer_UNetXL": Row(what="Pre-trains AMAES' U-Net XL.", network=UNET_XL),
        "ADNeXtAMAESTrainer_MedNeXtM": Row(
            what="Pre-trains MedNeXt M as AMAES does.", network=NetworkSettings(name="mednext_m_k3"), settings=MEDNEXT
        ),
        "ADNeXtAMAESTrainer_MedNeXtL": Row(
            what="Pre-trains MedNeXt L as AMAES does.", network=NetworkSettings(name="mednext_l_k3"), settings=MEDNEXT
        ),
        "ADNeXtAMAESTrainer_ResEncL": Row(
            what="Pre-trains nnU-Net's ResEnc-L as AMAES does its own networks.",
            network=NetworkSettings(name="resenc_l"),
            settings=MEDNEXT,
        ),
        "ADNeXtAMAESTrainer_UNetB_released": Row(
            what="Pre-trains AMAES' U-Net B by the recipe of the released code.", network=UNET_B, settings=RELEASED
        ),
        "ADNeXtAMAESTrainer_UNetXL_released": Row(
            what="Pre-trains AMAES' U-Net XL by the recipe of the released code.", network=UNET_XL, settings=RELEASED
        ),
        "ADNeXtAMAESTrainer_UNetXL_none": _arm("no augmentation"),
        "ADNeXtAMAESTrainer_UNetXL_spatial": _arm("augmentation in space alone", augmentation="amaes_spatial"),
        "ADNeXtAMAESTrainer_UNetXL_standard": _arm("the standard decoder, no augmentation", decoder="standard"),
        "ADNeXtAMAESTrainer_UNetXL_skips": _arm(
            "the standard decoder with skips, no augmentation", decoder="standard", skips=True
        ),
    },
)


def __getattr__(name: str) -> type[ADNeXtAMAESTrainer]:
    return trainer_in(TRAINERS, __name__, name)
