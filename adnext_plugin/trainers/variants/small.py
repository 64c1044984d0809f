"""AD-NeXt for cohorts of a few hundred scans, without pre-training: the recipe that docs/recipes.md arrives at."""

from adnext_plugin.plan import NetworkSettings
from adnext_plugin.plans.advice import SMALL
from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.trainers.variants.table import SIZES, Row, adnext, trainer_in, trainers_of

OPTIONS = {"stem": "convolutional", "head_norm": "batch", "init": "fan_in", "drop_path_rate": 0.0, "mirror": True}


def small(size: str) -> NetworkSettings:
    """AD-NeXt of a size, for few scans."""
    return adnext(size, **OPTIONS)


TRAINERS = trainers_of(
    ADNeXtTrainer,
    __name__,
    {
        f"ADNeXtTrainer_{size}_Small": Row(
            what=f"AD-NeXt-{size} with a convolutional stem and batch norm in the head, {SIZES[size]} M parameters.",
            network=small(size),
            settings=SMALL,
        )
        for size in "TSB"
    },
)


def __getattr__(name: str) -> type[ADNeXtTrainer]:
    return trainer_in(TRAINERS, __name__, name)
