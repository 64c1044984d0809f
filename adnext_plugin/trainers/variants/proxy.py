"""Age, sex and volumes told from scans, before anybody's diagnosis."""

from adnext_plugin.pretraining.proxy.objective import ProxyObjective
from adnext_plugin.trainers.self_supervised import SelfSupervisedTrainer
from adnext_plugin.trainers.variants.small import small
from adnext_plugin.trainers.variants.table import Row, trainer_in, trainers_of


class ADNeXtProxyTrainer(SelfSupervisedTrainer):
    """Pre-trains the network that the plan names to tell people's age and sex."""

    settings = ProxyObjective.settings


TRAINERS = trainers_of(
    ADNeXtProxyTrainer,
    __name__,
    {
        f"ADNeXtProxyTrainer_{size}_Small": Row(
            what=f"Pre-trains the network of ADNeXtTrainer_{size}_Small to tell people's age and sex.",
            network=small(size),
        )
        for size in "TSB"
    },
)


def __getattr__(name: str) -> type[ADNeXtProxyTrainer]:
    return trainer_in(TRAINERS, __name__, name)
