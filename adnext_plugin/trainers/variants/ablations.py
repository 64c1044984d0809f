"""The nine variants of AD-NeXt-B in Figure 1 of the paper: kernel size by downsampling."""

from itertools import product

from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.trainers.variants.adnext import ADNeXtTrainer_B
from adnext_plugin.trainers.variants.table import Row, adnext, trainer_in, trainers_of

TRAINERS = trainers_of(
    ADNeXtTrainer_B,
    __name__,
    {
        f"ADNeXtTrainer_B_k{kernel}_{downsampling}": Row(
            what=f"AD-NeXt-B with {kernel}³ depthwise kernels and {downsampling} downsampling.",
            network=adnext("B", kernel_size=kernel, downsampling=downsampling),
        )
        for kernel, downsampling in product((3, 5, 7), ("avg", "max", "strided"))
    },
)


def __getattr__(name: str) -> type[ADNeXtTrainer]:
    return trainer_in(TRAINERS, __name__, name)
