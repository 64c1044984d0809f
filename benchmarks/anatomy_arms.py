"""The networks of `anatomy_networks.py`: every one, with its reason, written down before any was trained.

All of them learn AD against normal, 60 and over. Which of them is reported as the network is decided on `selection`
alone; all are in the table.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BOX, BRAIN = "MedialTemporal", "Tissues"  # plans: 2 mm around the medial temporal lobes, the whole brain at 3 mm
PRESETS = {
    BRAIN: Path(__file__).parent / "oasis_tissues_plan.json",
    BOX: Path(__file__).parent / "oasis_medial_temporal_plan.json",
}
SMALL, LINEAR = "ADNeXtTrainer_T_Small", "ADNeXtLinearTrainer"
VOLUMES = tuple(
    f"{region}_{side}_{tissue}_ml_per_l"
    for region in ("hippocampus", "amygdala", "entorhinal", "parahippocampal")
    for side in ("left", "right")
    for tissue in ("grey", "fluid")
)
OF_HIPPOCAMPUS = tuple(name for name in VOLUMES if name.startswith("hippocampus"))
VENTRICLES = ("ventricles_left_fluid_ml_per_l", "ventricles_right_fluid_ml_per_l")
REGIONS_OF_AD = tuple(name for name in OF_HIPPOCAMPUS if "fluid" in name)  # as of ADNeXtRegionsTrainer
TOLD = {"covariates": ["age", "sex"]}
WITH_REGIONS = {"covariates": ["age", "sex", *REGIONS_OF_AD]}


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Learns age, sex and volumes of the people whom a fold trains on and of normal people of 30 to 59."""

    reason: str
    plans: str = BOX
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Learns AD, from scratch or from one of the encoders."""

    reason: str
    plans: str = BOX
    trainer: str = SMALL
    settings: dict[str, Any] = field(default_factory=dict)
    encoder: str | None = None

    @property
    def is_linear(self) -> bool:
        """Whether it is fitted at once, on the CPU, and the same under every seed but for its inner folds."""
        return self.trainer == LINEAR

    @property
    def has_regions(self) -> bool:
        """Whether it is told what `adnext_regions` measured."""
        return any(column in REGIONS_OF_AD for column in self.settings.get("covariates", ()))


ENCODERS = {
    "anatomy": Encoder(
        reason="90 people do not teach where to look; volumes of the medial temporal lobes do, and need no diagnosis",
        settings={"numbers": ["age", *VOLUMES], "epochs": 40, "warmup_epochs": 4},
    ),
    "hippocampus": Encoder(
        reason="AD is told from hippocampal fluid best; features are spent on nothing else but age and sex",
        settings={"numbers": ["age", *OF_HIPPOCAMPUS], "epochs": 40, "warmup_epochs": 4},
    ),
    "anatomy_moved": Encoder(
        reason="small turns, shifts and sizes: a volume is to be told wherever the alignment has put it",
        settings={"numbers": ["age", *VOLUMES], "epochs": 60, "warmup_epochs": 4, "augmentation": "affine"},
    ),
    "brain": Encoder(
        reason="what is lost elsewhere in the brain says something, too",
        plans=BRAIN,
        settings={"numbers": ["age", "brain_share", *VENTRICLES, *VOLUMES], "epochs": 40, "warmup_epochs": 4},
    ),
}

HEAD = {"layer_decay": 0.0}
# weights of standardised columns are to come to about 1, which 220 steps of at most 3e-3 cannot do
LONG_HEAD = {"layer_decay": 0.0, "learning_rate": 1e-2, "epochs": 40}
ALL_LAYERS = {"layer_decay": 0.5, "learning_rate": 1e-3}
ARMS = {
    "anatomy, head, age+sex": Arm(
        reason="what changes least did best when encoders knew age alone (recipes.md)",
        encoder="anatomy",
        settings=HEAD | TOLD,
    ),
    "anatomy, head, regions": Arm(
        reason="measured fluid cannot be blurred by a network; it adds what regions do not say",
        encoder="anatomy",
        settings=LONG_HEAD | WITH_REGIONS,
    ),
    "box, from scratch": Arm(reason="tissue maps where AD begins, instead of the whole brain"),
    "box, from scratch, age+sex": Arm(reason="the same, for its age", settings=TOLD),
    "box, from scratch, regions": Arm(reason="the same beside measured fluid", settings=WITH_REGIONS),
    "anatomy, all layers, age+sex": Arm(
        reason="volumes are not all that AD changes: layers may go on, those near the input slowly",
        encoder="anatomy",
        settings=ALL_LAYERS | TOLD,
    ),
    "anatomy, all layers, regions": Arm(
        reason="the same beside measured fluid", encoder="anatomy", settings=ALL_LAYERS | WITH_REGIONS
    ),
    "hippocampus, head, age+sex": Arm(
        reason="fewer things known, less that a head can learn by heart", encoder="hippocampus", settings=HEAD | TOLD
    ),
    "hippocampus, head, regions": Arm(
        reason="the same beside measured fluid", encoder="hippocampus", settings=LONG_HEAD | WITH_REGIONS
    ),
    "brain, head, age+sex": Arm(
        reason="features of the whole brain", plans=BRAIN, encoder="brain", settings=HEAD | TOLD
    ),
    "brain, head, regions": Arm(
        reason="features of the whole brain beside measured fluid",
        plans=BRAIN,
        encoder="brain",
        settings=LONG_HEAD | WITH_REGIONS,
    ),
    "moved anatomy, head, age+sex": Arm(
        reason="features that do not depend on the alignment", encoder="anatomy_moved", settings=HEAD | TOLD
    ),
    "moved anatomy, head, regions": Arm(
        reason="the same beside measured fluid", encoder="anatomy_moved", settings=LONG_HEAD | WITH_REGIONS
    ),
    "anatomy, head, age+sex, longer": Arm(
        reason="a head that is given the steps of those with regions", encoder="anatomy", settings=LONG_HEAD | TOLD
    ),
    "anatomy, head": Arm(reason="without age it cannot know what is normal", encoder="anatomy", settings=HEAD),
    "hippocampus, all layers, age+sex": Arm(reason="as of anatomy", encoder="hippocampus", settings=ALL_LAYERS | TOLD),
    "brain, all layers, age+sex": Arm(reason="as of anatomy", plans=BRAIN, encoder="brain", settings=ALL_LAYERS | TOLD),
    "whole brain, from scratch, age+sex": Arm(reason="tissue maps alone, no place told", plans=BRAIN, settings=TOLD),
    "whole brain, from scratch, regions": Arm(
        reason="the same beside measured fluid", plans=BRAIN, settings=WITH_REGIONS
    ),
    "box, longer, moved, age+sex": Arm(
        reason="people are learned by heart within ten epochs: views that are never the same, more weight decay",
        settings=TOLD | {"epochs": 40, "augmentation": "affine", "weight_decay": 0.3, "learning_rate": 1e-3},
    ),
    "box, AD-NeXt-T, age+sex": Arm(
        reason="the published network at a rate at which it moves",
        trainer="ADNeXtTrainer_T",
        settings=TOLD
        | {"epochs": 30, "learning_rate": 5e-4, "warmup_epochs": 2, "augmentation": "anatomical", "batch_size": 8},
    ),
}
# linear models of voxels, as the rows of `oasis_leaderboard.py` have them
FITTED = {"learn_from_selection": True}
BOTH = {"channels": ["grey", "fluid"]}
ARMS |= {
    "linear, box, grey and fluid": Arm(
        reason="what networks of the box are held against", trainer=LINEAR, settings=FITTED | BOTH | TOLD
    ),
    "linear, box, fluid": Arm(
        reason="at 2 mm fluid says more than grey matter",
        trainer=LINEAR,
        settings=FITTED | {"channels": ["fluid"]} | TOLD,
    ),
    "linear, box, grey and fluid, regions": Arm(
        reason="voxels beside measured fluid", trainer=LINEAR, settings=FITTED | BOTH | WITH_REGIONS
    ),
    "linear, brain, modulated grey": Arm(
        reason="the usual classical model",
        plans=BRAIN,
        trainer=LINEAR,
        settings=FITTED | {"channels": ["grey"]} | TOLD,
    ),
    "linear, brain, grey and fluid": Arm(
        reason="what networks of the brain are held against",
        plans=BRAIN,
        trainer=LINEAR,
        settings=FITTED | BOTH | TOLD,
    ),
}
