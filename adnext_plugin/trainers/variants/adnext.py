"""AD-NeXt in its four sizes, under the paper's recipe."""

from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.trainers.variants.table import SIZES, Row, adnext, trainer_in, trainers_of

TRAINERS = trainers_of(
    ADNeXtTrainer,
    __name__,
    {
        f"ADNeXtTrainer_{size}": Row(what=f"AD-NeXt-{size}, {millions} M parameters.", network=adnext(size))
        for size, millions in SIZES.items()
    },
)


def __getattr__(name: str) -> type[ADNeXtTrainer]:
    return trainer_in(TRAINERS, __name__, name)
