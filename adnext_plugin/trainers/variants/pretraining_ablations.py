"""The arms of the AD-NeXt paper's ablations of pre-training, all of size B."""

from dataclasses import replace

from adnext_plugin.trainers.self_supervised import ADNeXtFCMAETrainer_B


def _arm(name: str, what: str, **changes: float | str) -> type[ADNeXtFCMAETrainer_B]:
    members = {
        "__doc__": f"AD-NeXt-B, {what}.",
        "__module__": __name__,
        "settings": replace(ADNeXtFCMAETrainer_B.settings, **changes),
    }
    return type(f"ADNeXtFCMAETrainer_B_{name}", (ADNeXtFCMAETrainer_B,), members)


# Table 2
ADNeXtFCMAETrainer_B_nonsparse = _arm("nonsparse", "masked once after the stem", sparse_backend="masked_once")
# Table 3
ADNeXtFCMAETrainer_B_decoder64 = _arm("decoder64", "decoder of width 64", decoder_width=64)
ADNeXtFCMAETrainer_B_decoder128 = _arm("decoder128", "decoder of width 128", decoder_width=128)
ADNeXtFCMAETrainer_B_decoder256 = _arm("decoder256", "decoder of width 256", decoder_width=256)
ADNeXtFCMAETrainer_B_decoder512 = _arm("decoder512", "decoder of width 512", decoder_width=512)
ADNeXtFCMAETrainer_B_decoder768 = _arm("decoder768", "decoder of width 768", decoder_width=768)
# Figure 5
ADNeXtFCMAETrainer_B_mask50 = _arm("mask50", "half of the patches masked", mask_ratio=0.5)
ADNeXtFCMAETrainer_B_mask60 = _arm("mask60", "60 % of the patches masked", mask_ratio=0.6)
ADNeXtFCMAETrainer_B_mask70 = _arm("mask70", "70 % of the patches masked", mask_ratio=0.7)
ADNeXtFCMAETrainer_B_mask80 = _arm("mask80", "80 % of the patches masked", mask_ratio=0.8)
