"""Y-aware contrast of people's ages, and SimCLR, for the networks that it is worth most with."""

from dataclasses import replace

from adnext_plugin.plan import NetworkSettings
from adnext_plugin.pretraining.contrast.objective import ContrastiveObjective
from adnext_plugin.trainers.self_supervised import SelfSupervisedTrainer
from adnext_plugin.trainers.variants.small import small
from adnext_plugin.trainers.variants.table import SIZES, Row, adnext, trainer_in, trainers_of


class ADNeXtContrastiveTrainer(SelfSupervisedTrainer):
    """Pre-trains the encoder that the plan names by y-aware contrast of people's ages."""

    settings = ContrastiveObjective.settings


# the features of AD-NeXt are nearly the same for everybody: what they share is taken away first
ADNEXT = replace(ContrastiveObjective.settings, options={"projector_norm": "batch"})
SIMCLR = replace(ContrastiveObjective.settings, options={"sigmas": {}})

TRAINERS = trainers_of(
    ADNeXtContrastiveTrainer,
    __name__,
    {
        **{
            f"ADNeXtContrastiveTrainer_{size}": Row(
                what=f"Pre-trains AD-NeXt-{size} by y-aware contrast of ages.", network=adnext(size), settings=ADNEXT
            )
            for size in SIZES
        },
        "ADNeXtContrastiveTrainer_T_Small": Row(
            what="Pre-trains the network of ADNeXtTrainer_T_Small by y-aware contrast of ages.",
            network=small("T"),
            settings=ADNEXT,
        ),
        "ADNeXtContrastiveDenseNet121Trainer": Row(
            what="Pre-trains DenseNet121 by y-aware contrast of ages, as Dufumier et al. 2021 do.",
            network=NetworkSettings(name="densenet121"),
        ),
        "ADNeXtSimCLRTrainer": Row(
            what="Pre-trains the encoder that the plan names as SimCLR does, without labels.", settings=SIMCLR
        ),
    },
)


def __getattr__(name: str) -> type[ADNeXtContrastiveTrainer]:
    return trainer_in(TRAINERS, __name__, name)
