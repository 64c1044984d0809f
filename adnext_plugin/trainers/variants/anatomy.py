"""AD-NeXt that is taught volumes of the medial temporal lobes before anybody's diagnosis: docs/anatomy.md.

The preset `anatomy` and `adnext_regions` prepare what these trainers need.
"""

from dataclasses import replace

from adnext_plugin.paths import REGION_VOLUME
from adnext_plugin.preprocessing.anatomy.regions import medial_temporal_volumes
from adnext_plugin.pretraining.proxy.objective import ProxyObjective
from adnext_plugin.settings import ProbeSettings
from adnext_plugin.trainers.linear import REGIONS_OF_AD
from adnext_plugin.trainers.probe import ADNeXtProbeTrainer
from adnext_plugin.trainers.variants.proxy import ADNeXtProxyTrainer
from adnext_plugin.trainers.variants.small import small

# what the study of docs/anatomy.md taught
VOLUMES = tuple(f"{name}{REGION_VOLUME}" for name in medial_temporal_volumes() if not name.startswith("temporal_horn"))


class ADNeXtProxyTrainer_T_Anatomy(ADNeXtProxyTrainer):
    """Pre-trains AD-NeXt-T to tell age, sex and sixteen volumes of the medial temporal lobes."""

    network_settings = small("T")
    # shares of tissue are measured: brightness changed at random would change the very volumes that are to be told
    settings = replace(
        ProxyObjective.settings,
        epochs=30,
        warmup_epochs=3,
        augmentation="mirror",
        precise_batch_norm=False,
        options={"numbers": ["age", *VOLUMES]},
    )


class ADNeXtTrainer_T_Anatomy(ADNeXtProbeTrainer):
    """Linear model of age, sex and the hippocampal fluid that an encoder of ADNeXtProxyTrainer_T_Anatomy tells."""

    network_settings = small("T")
    settings = ProbeSettings(covariates=("age", "sex"), bottleneck=REGIONS_OF_AD)
