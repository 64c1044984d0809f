"""Masked autoencoders of AD-NeXt in its four sizes, under the recipe of the paper's Table 6."""

from adnext_plugin.pretraining.masked_autoencoder.objective import FCMAEObjective
from adnext_plugin.trainers.self_supervised import SelfSupervisedTrainer
from adnext_plugin.trainers.variants.table import SIZES, Row, adnext, trainer_in, trainers_of


class ADNeXtFCMAETrainer(SelfSupervisedTrainer):
    """Pre-trains the AD-NeXt encoder that the plan names (AD-NeXt-B if it names none) as a masked autoencoder."""

    settings = FCMAEObjective.settings


TRAINERS = trainers_of(
    ADNeXtFCMAETrainer,
    __name__,
    {
        f"ADNeXtFCMAETrainer_{size}": Row(
            what=f"Pre-trains AD-NeXt-{size} as a masked autoencoder.", network=adnext(size)
        )
        for size in SIZES
    },
)


def __getattr__(name: str) -> type[ADNeXtFCMAETrainer]:
    return trainer_in(TRAINERS, __name__, name)
