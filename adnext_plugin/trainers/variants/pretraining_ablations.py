"""The arms of the AD-NeXt paper's ablations of pre-training, all of size B."""

from dataclasses import replace
from typing import Any

from adnext_plugin.trainers.variants.pretraining import ADNeXtFCMAETrainer, ADNeXtFCMAETrainer_B
from adnext_plugin.trainers.variants.table import Row, trainer_in, trainers_of

WIDTHS = (64, 128, 256, 512, 768)
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    # Table 2
    "nonsparse": ("masked once after the stem", {"sparse_backend": "masked_once"}),
    # Table 3
    **{
        f"decoder{width}": (f"decoder of width {width}", {"decoder_width": width}) for width in (64, 128, 256, 512, 768)
    },
    # Figure 5
    "mask50": ("half of the patches masked", {"mask_ratio": 0.5}),
    **{f"mask{share}": (f"{share} % of the patches masked", {"mask_ratio": share / 100}) for share in (60, 70, 80)},
}

TRAINERS = trainers_of(
    ADNeXtFCMAETrainer_B,
    __name__,
    {
        f"ADNeXtFCMAETrainer_B_{name}": Row(
            what=f"AD-NeXt-B, {what}.", settings=replace(ADNeXtFCMAETrainer_B.settings, options=options)
        )
        for name, (what, options) in ARMS.items()
    },
)


def __getattr__(name: str) -> type[ADNeXtFCMAETrainer]:
    return trainer_in(TRAINERS, __name__, name)
