"""The nine variants of AD-NeXt-B in Figure 1 of the paper: kernel size by downsampling."""

from dataclasses import replace

from adnext_plugin.trainers.variants.adnext import ADNeXtTrainer_B


def _variant(kernel_size: int, downsampling: str) -> type[ADNeXtTrainer_B]:
    name = f"ADNeXtTrainer_B_k{kernel_size}_{downsampling}"
    base = ADNeXtTrainer_B.network_settings
    options = {**base.options, "kernel_size": kernel_size, "downsampling": downsampling}
    members = {
        "__doc__": f"AD-NeXt-B with {kernel_size}³ depthwise kernels and {downsampling} downsampling.",
        "__module__": __name__,
        "network_settings": replace(base, options=options),
    }
    return type(name, (ADNeXtTrainer_B,), members)


ADNeXtTrainer_B_k3_avg = _variant(3, "avg")
ADNeXtTrainer_B_k3_max = _variant(3, "max")
ADNeXtTrainer_B_k3_strided = _variant(3, "strided")
ADNeXtTrainer_B_k5_avg = _variant(5, "avg")
ADNeXtTrainer_B_k5_max = _variant(5, "max")
ADNeXtTrainer_B_k5_strided = _variant(5, "strided")
ADNeXtTrainer_B_k7_avg = _variant(7, "avg")
ADNeXtTrainer_B_k7_max = _variant(7, "max")
ADNeXtTrainer_B_k7_strided = _variant(7, "strided")
