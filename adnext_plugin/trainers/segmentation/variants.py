"""Segmentation trainers by name: encoders of AMAES, MedNeXt-v2, SwinUNETR and AD-NeXt.

Sources: Munk et al. 2024 (AMAES), fine-tuning; MedNeXt-v2 (2025), of whose recipe rate, warm-up and epochs are
published, and the rest is nnU-Net's. The rate of AD-NeXt is ours.
"""

from dataclasses import replace
from typing import Any

from adnext_plugin.networks.segmentation.build import Decoder
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.settings import SegmentationSettings
from adnext_plugin.trainers.segmentation.trainer import ADNeXtSegmentationTrainer
from adnext_plugin.trainers.variants.table import trainer_in

AMAES = ADNeXtSegmentationTrainer.settings
MEDNEXT_V2 = SegmentationSettings(
    epochs=300,
    warmup_epochs=50,
    batch_size=None,
    learning_rate=1e-3,
    min_learning_rate=0.0,
    amsgrad=False,
    schedule="poly",
    schedule_stretch=1.0,
    augmentation="nnunet",
    deep_supervision=True,
)
ADNEXT = replace(AMAES, learning_rate=5e-4)


def _trainer(
    name: str,
    what: str,
    network: str,
    settings: SegmentationSettings = AMAES,
    decoder: Decoder = "unet",
    **options: Any,
) -> type[ADNeXtSegmentationTrainer]:
    members = {
        "__doc__": what,
        "__module__": __name__,
        "__qualname__": name,
        "network_settings": NetworkSettings(name=network, options=options),
        "settings": settings,
        "decoder": decoder,
    }
    return type(name, (ADNeXtSegmentationTrainer,), members)


TRAINERS = {
    trainer.__name__: trainer
    for trainer in (
        _trainer("ADNeXtSegUNetBTrainer", "Segments with AMAES' U-Net B.", "unet_b"),
        _trainer("ADNeXtSegUNetXLTrainer", "Segments with AMAES' U-Net XL.", "unet_xl"),
        _trainer(
            "ADNeXtSegMedNeXtMTrainer",
            "Segments with MedNeXt M's encoder and a U-Net's decoder, as AMAES does.",
            "mednext_m_k3",
            replace(AMAES, learning_rate=6e-4),
        ),
        _trainer(
            "ADNeXtSegMedNeXtLTrainer",
            "Segments with MedNeXt L's encoder and a U-Net's decoder, as AMAES does.",
            "mednext_l_k3",
            replace(AMAES, learning_rate=5e-4),
        ),
        _trainer("ADNeXtSegMedNeXtV2Trainer", "Segments with MedNeXt-v2.", "mednext_v2", MEDNEXT_V2, "mednext"),
        _trainer(
            "ADNeXtSegMedNeXtV2WideTrainer",
            "Segments with MedNeXt-v2 of twice the width.",
            "mednext_v2_wide",
            MEDNEXT_V2,
            "mednext",
        ),
        _trainer(
            "ADNeXtSegSwinUNETRTrainer",
            "Segments with SwinUNETR, as AMAES does.",
            "swin_unetr_48",
            decoder="swin_unetr",
        ),
        *(
            _trainer(
                f"ADNeXtSegTrainer_{size}",
                f"Segments with AD-NeXt-{size}'s encoder and a U-Net's decoder.",
                f"adnext_{size.lower()}",
                ADNEXT,
                init="fan_in",
            )
            for size in "TSB"
        ),
    )
}


def __getattr__(name: str) -> type[ADNeXtSegmentationTrainer]:
    return trainer_in(TRAINERS, __name__, name)
