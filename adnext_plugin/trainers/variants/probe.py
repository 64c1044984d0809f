"""Linear probes of AD-NeXt: for cohorts too small to train one on."""

from adnext_plugin.trainers.probe import ADNeXtProbeTrainer
from adnext_plugin.trainers.variants.small import small
from adnext_plugin.trainers.variants.table import Row, adnext, trainer_in, trainers_of

TRAINERS = trainers_of(
    ADNeXtProbeTrainer,
    __name__,
    {
        f"ADNeXtProbeTrainer_{size}": Row(
            what=f"Linear model of the features of a frozen AD-NeXt-{size}.", network=adnext(size)
        )
        for size in "TSBL"
    }
    | {
        f"ADNeXtProbeTrainer_{size}_Small": Row(
            what=f"Linear model of the features of a frozen network of ADNeXtTrainer_{size}_Small.",
            network=small(size),
        )
        for size in "TSB"
    },
)


def __getattr__(name: str) -> type[ADNeXtProbeTrainer]:
    return trainer_in(TRAINERS, __name__, name)
