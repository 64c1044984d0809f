"""Masked reconstruction and y-aware contrast at once."""

from dataclasses import replace

from adnext_plugin.plan import NetworkSettings
from adnext_plugin.pretraining.hybrid.objective import HybridObjective
from adnext_plugin.trainers.self_supervised import SelfSupervisedTrainer
from adnext_plugin.trainers.variants.table import SIZES, Row, adnext, trainer_in, trainers_of


class ADNeXtHybridTrainer(SelfSupervisedTrainer):
    """Pre-trains the encoder that the plan names by masked reconstruction and y-aware contrast at once."""

    settings = HybridObjective.settings


# U-Nets fill in the small blocks of AMAES, whose deformations then make the masked scan
AMAES = replace(HybridObjective.settings, augmentation="amaes_spatial", options={"masked": "amaes"})

TRAINERS = trainers_of(
    ADNeXtHybridTrainer,
    __name__,
    {
        **{
            f"ADNeXtHybridTrainer_{size}": Row(
                what=f"Pre-trains AD-NeXt-{size} by masked reconstruction and y-aware contrast.", network=adnext(size)
            )
            for size in SIZES
        },
        **{
            f"ADNeXtHybridTrainer_{short}": Row(
                what=f"Pre-trains {words} by AMAES and y-aware contrast.",
                network=NetworkSettings(name=name),
                settings=AMAES,
            )
            for short, name, words in (
                ("UNetB", "unet_b", "the U-Net B of AMAES"),
                ("ResEncL", "resenc_l", "nnU-Net's ResEnc-L"),
            )
        },
    },
)


def __getattr__(name: str) -> type[ADNeXtHybridTrainer]:
    return trainer_in(TRAINERS, __name__, name)
