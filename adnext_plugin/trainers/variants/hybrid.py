"""Masked reconstruction and y-aware contrast at once."""

from adnext_plugin.pretraining.hybrid.objective import HybridObjective
from adnext_plugin.trainers.self_supervised import SelfSupervisedTrainer
from adnext_plugin.trainers.variants.table import SIZES, Row, adnext, trainer_in, trainers_of


class ADNeXtHybridTrainer(SelfSupervisedTrainer):
    """Pre-trains the encoder that the plan names by masked reconstruction and y-aware contrast at once."""

    settings = HybridObjective.settings


TRAINERS = trainers_of(
    ADNeXtHybridTrainer,
    __name__,
    {
        f"ADNeXtHybridTrainer_{size}": Row(
            what=f"Pre-trains AD-NeXt-{size} by masked reconstruction and y-aware contrast.", network=adnext(size)
        )
        for size in SIZES
    },
)


def __getattr__(name: str) -> type[ADNeXtHybridTrainer]:
    return trainer_in(TRAINERS, __name__, name)
