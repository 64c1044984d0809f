"""The networks of `anatomy_networks.py`: every one, with its reason, written down before any was
trained; those of the second part later, as it says there.

All of them learn AD against normal, 60 and over. Which of them is reported as the network is decided on `selection`
alone; all are in the table.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from adnext_plugin.paths import REGION_VOLUME
from adnext_plugin.preprocessing.anatomy.regions import medial_temporal_volumes

BOX, BRAIN = "MedialTemporal", "Tissues"  # plans: 2 mm around the medial temporal lobes, the whole brain at 3 mm
PRESETS = {
    BRAIN: Path(__file__).parent / "oasis_tissues_plan.json",
    BOX: "anatomy",
}
SMALL, PROBE = "ADNeXtTrainer_T_Small", "ADNeXtProbeTrainer_T_Small"
VOLUMES = tuple(f"{name}{REGION_VOLUME}" for name in medial_temporal_volumes() if not name.startswith("temporal_horn"))
OF_HIPPOCAMPUS = tuple(name for name in VOLUMES if name.startswith("hippocampus"))
VENTRICLES = ("ventricles_left_fluid_ml_per_l", "ventricles_right_fluid_ml_per_l")
REGIONS_OF_AD = tuple(name for name in OF_HIPPOCAMPUS if "fluid" in name)  # as of ADNeXtRegionsTrainer
TOLD = {"covariates": ["age", "sex"]}
WITH_REGIONS = {"covariates": ["age", "sex", *REGIONS_OF_AD]}
People = Literal["from 30", "all"]
# shares of tissue are measured: brightness that is changed at random would change the very volumes that are to be told
MEASURED = {"augmentation": "mirror"}


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Learns age, sex and volumes of the people whom a fold trains on and of normal people who are younger.

    These are of OASIS-1, 30 to 59 years old, or all of it and of IXI.
    """

    reason: str
    plans: str = BOX
    people: People = "from 30"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Learns AD, from scratch or from one of the encoders. Those of the lowest rank are trained first."""

    reason: str
    rank: int = 0
    plans: str = BOX
    trainer: str = SMALL
    settings: dict[str, Any] = field(default_factory=dict)
    encoder: str | None = None

    @property
    def has_regions(self) -> bool:
        """Whether it is told what `adnext_regions` measured."""
        return any(column in REGIONS_OF_AD for column in self.settings.get("covariates", ()))


# what begins with them settles batch norms by itself, so that they need not
TAUGHT = MEASURED | {"epochs": 30, "warmup_epochs": 3, "precise_batch_norm": False}
ENCODERS = {
    "anatomy": Encoder(
        reason="90 people do not teach where to look; volumes of the medial temporal lobes do, and need no diagnosis",
        settings=TAUGHT | {"numbers": ["age", *VOLUMES]},
    ),
    "hippocampus": Encoder(
        reason="AD is told from hippocampal fluid best; features are spent on nothing else but age and sex",
        settings=TAUGHT | {"numbers": ["age", *OF_HIPPOCAMPUS]},
    ),
    "brain": Encoder(
        reason="what is lost elsewhere in the brain says something, too",
        plans=BRAIN,
        settings=TAUGHT | {"numbers": ["age", "brain_share", *VENTRICLES, *VOLUMES]},
    ),
    "anatomy of all": Encoder(
        reason="volumes can be measured of anybody: of 490 people instead of 170, twice as many steps",
        people="all",
        settings=TAUGHT | {"numbers": ["age", *VOLUMES], "epochs": 20},
    ),
}

# features of an encoder that learns no more are always the same: running statistics are those of all training people.
# Weights of standardised columns are to come to about 1, which 220 steps of at most 3e-3 cannot do.
HEAD = MEASURED | {"layer_decay": 0.0, "precise_batch_norm": False}
LONG_HEAD = HEAD | {"learning_rate": 2e-2}
ALL_LAYERS = MEASURED | {"layer_decay": 0.5, "learning_rate": 1e-3}
ARMS = {
    "anatomy, head, age+sex": Arm(
        reason="what changes least did best when encoders knew age alone (recipes.md)",
        encoder="anatomy",
        settings=HEAD | TOLD,
    ),
    "anatomy, head, regions": Arm(
        reason="measured fluid cannot be blurred by a network, which adds what regions do not say",
        encoder="anatomy",
        settings=LONG_HEAD | WITH_REGIONS,
    ),
    "anatomy, head, age+sex, higher rate": Arm(
        reason="a head that may go as far as those with regions", encoder="anatomy", settings=LONG_HEAD | TOLD
    ),
    "hippocampus, head, age+sex": Arm(
        reason="fewer things known, less that a head can learn by heart", encoder="hippocampus", settings=HEAD | TOLD
    ),
    "hippocampus, head, regions": Arm(
        reason="the same beside measured fluid", encoder="hippocampus", settings=LONG_HEAD | WITH_REGIONS
    ),
    "box, from scratch, age+sex": Arm(
        reason="tissue maps where AD begins, instead of the whole brain", settings=MEASURED | TOLD
    ),
    "anatomy, all layers, age+sex": Arm(
        reason="volumes are not all that AD changes: layers may go on, those near the input slowly",
        encoder="anatomy",
        settings=ALL_LAYERS | TOLD,
    ),
    "anatomy, all layers, regions": Arm(
        rank=1, reason="the same beside measured fluid", encoder="anatomy", settings=ALL_LAYERS | WITH_REGIONS
    ),
    "box, from scratch, regions": Arm(
        rank=1, reason="the same beside measured fluid", settings=MEASURED | WITH_REGIONS
    ),
    "box, from scratch": Arm(rank=1, reason="the recipe as it is, brightness changed, no age"),
    "hippocampus, all layers, age+sex": Arm(
        rank=2, reason="as of anatomy", encoder="hippocampus", settings=ALL_LAYERS | TOLD
    ),
    "anatomy, head": Arm(rank=2, reason="without age it cannot know what is normal", encoder="anatomy", settings=HEAD),
    "box, AD-NeXt-T, age+sex": Arm(
        rank=1,
        reason="the published network at a rate at which it moves",
        trainer="ADNeXtTrainer_T",
        settings=MEASURED | TOLD | {"learning_rate": 5e-4, "warmup_epochs": 2, "batch_size": 8, "epochs": 30},
    ),
    "whole brain, from scratch, age+sex": Arm(
        rank=1, reason="tissue maps alone, no place told", plans=BRAIN, settings=MEASURED | TOLD
    ),
    "brain, head, age+sex": Arm(
        rank=2, reason="features of the whole brain", plans=BRAIN, encoder="brain", settings=HEAD | TOLD
    ),
    "brain, head, regions": Arm(
        rank=2,
        reason="features of the whole brain beside measured fluid",
        plans=BRAIN,
        encoder="brain",
        settings=LONG_HEAD | WITH_REGIONS,
    ),
    "whole brain, from scratch, regions": Arm(
        rank=2, reason="the same beside measured fluid", plans=BRAIN, settings=MEASURED | WITH_REGIONS
    ),
    "box, longer, moved, age+sex": Arm(
        rank=2,
        reason="people are learned by heart within ten epochs: views that are never the same, more weight decay",
        settings=TOLD | {"epochs": 40, "augmentation": "affine", "weight_decay": 0.3, "learning_rate": 1e-3},
    ),
}

# Written when half of the arms above had come to an end. Heads on frozen features did best, and had come nowhere near
# the optimum of their own loss: 220 steps at two rates gave two answers. What a head is to learn is convex, so that its
# optimum can be had, with a penalty that people left out choose. A trial went before: sixteen such models on the
# encoders `anatomy` and `brain` of the first seed, scored on `selection` alone. Other encoders were not in it.
PROBED = partial(Arm, trainer=PROBE)
BOTTLENECK = {"bottleneck": list(REGIONS_OF_AD)}
LIGHT = WITH_REGIONS | {"image_weight": 0.1}
ARMS |= {
    "anatomy, probe, age+sex": PROBED(reason="the optimum of the head that did best", encoder="anatomy", settings=TOLD),
    "anatomy, bottleneck, age+sex": PROBED(
        reason="of all that is told, the fluid that measured regions are best with: little to learn by heart",
        encoder="anatomy",
        settings=TOLD | BOTTLENECK,
    ),
    "anatomy, probe, regions": PROBED(
        reason="features beside measured fluid", encoder="anatomy", settings=WITH_REGIONS
    ),
    "anatomy, light probe, regions": PROBED(
        reason="the same, features of less weight: measured fluid is to speak first",
        encoder="anatomy",
        settings=LIGHT,
    ),
    "hippocampus, probe, age+sex": PROBED(
        reason="features of nothing but hippocampi, age and sex", encoder="hippocampus", settings=TOLD
    ),
    "hippocampus, bottleneck, age+sex": PROBED(
        reason="fluid told by an encoder with less else to tell",
        encoder="hippocampus",
        settings=TOLD | BOTTLENECK,
    ),
    "brain, probe, age+sex": PROBED(reason="features of the whole brain", plans=BRAIN, encoder="brain", settings=TOLD),
    "brain, light probe, regions": PROBED(
        reason="features of the whole brain beside measured fluid",
        plans=BRAIN,
        encoder="brain",
        settings=LIGHT,
    ),
    "all, probe, age+sex": PROBED(
        reason="features taught by three times as many people", encoder="anatomy of all", settings=TOLD
    ),
    "all, bottleneck, age+sex": PROBED(
        reason="fluid told by whom three times as many people taught",
        encoder="anatomy of all",
        settings=TOLD | BOTTLENECK,
    ),
    "all, light probe, regions": PROBED(
        reason="features taught by three times as many people beside measured fluid",
        encoder="anatomy of all",
        settings=LIGHT,
    ),
}
