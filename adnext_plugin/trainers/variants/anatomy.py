"""AD-NeXt that is taught volumes of the medial temporal lobes before anybody's diagnosis: docs/anatomy.md.

The preset `anatomy` and `adnext_regions` prepare what these trainers need.
"""

from dataclasses import replace

from adnext_plugin.paths import REGION_VOLUME
from adnext_plugin.pretraining.proxy.objective import ProxyObjective
from adnext_plugin.settings import ProbeSettings
from adnext_plugin.trainers.linear import REGIONS_OF_AD
from adnext_plugin.trainers.probe import ADNeXtProbeTrainer
from adnext_plugin.trainers.variants.proxy import ADNeXtProxyTrainer
from adnext_plugin.trainers.variants.small import OPTIONS
from adnext_plugin.trainers.variants.table import adnext

VOLUMES = tuple(
    f"{region}_{side}_{tissue}{REGION_VOLUME}"
    for region in ("hippocampus", "amygdala", "entorhinal", "parahippocampal")
    for side in ("left", "right")
    for tissue in ("grey", "fluid")
)


class ADNeXtProxyTrainer_T_Anatomy(ADNeXtProxyTrainer):
    """Pre-trains AD-NeXt-T to tell age, sex and sixteen volumes of the medial temporal lobes."""

    network_settings = adnext("T", **OPTIONS)
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

    network_settings = adnext("T", **OPTIONS)
    settings = ProbeSettings(covariates=("age", "sex"), bottleneck=REGIONS_OF_AD)
