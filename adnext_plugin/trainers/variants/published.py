"""Networks of other papers, each under its paper's recipe. What a paper leaves open is said in docs/networks.md."""

from dataclasses import replace

from adnext_plugin.plan import NetworkSettings
from adnext_plugin.settings import TrainerSettings
from adnext_plugin.trainers.labelled import ADNeXtTrainer

# Source: Liu et al. 2022, code; the rate stays constant there
LIU = TrainerSettings(
    epochs=200,
    optimizer="sgd",
    learning_rate=0.01,
    weight_decay=0.0,
    schedule="constant",
    augmentation="liu",
    crop_voxels=(96, 96, 96),
    class_weights="none",
)
# Source: Cozzoli, Crippa and Taddei 2025, the best of their grid
POLIMI = replace(LIU, epochs=100, batch_size=36, optimizer="adam", learning_rate=1.8e-3, augmentation="polimi")
# Source: Dhinagar et al. 2023: up to 100 epochs, patience 30, cosine, warm-up up to 10; the rest from a random search
DHINAGAR = TrainerSettings(
    epochs=100,
    patience_epochs=30,
    batch_size=8,
    learning_rate=1e-4,
    weight_decay=5e-5,
    warmup_epochs=10,
    augmentation="none",
)
# Source: MedNeXt-v2 as read by third parties: peak rate after 50 epochs of warm-up
MEDNEXT_V2 = TrainerSettings(epochs=300, learning_rate=1e-3, warmup_epochs=50)


class ADNeXtLiuCNNTrainer(ADNeXtTrainer):
    """The network of Liu et al. 2022, 90 M parameters, on cuts of 96³ voxels."""

    network_settings = NetworkSettings(name="liu_cnn")
    settings = LIU


class ADNeXtLiuCNNAgeTrainer(ADNeXtTrainer):
    """The same with its age branch, which got their best results; needs the age of every case."""

    network_settings = NetworkSettings(name="liu_cnn", options={"age_branch": True})
    settings = LIU


class ADNeXtPoliMITrainer(ADNeXtTrainer):
    """The variant from the Politecnico di Milano, 25 M parameters, instance norm."""

    network_settings = NetworkSettings(name="polimi_cnn")
    settings = POLIMI


class ADNeXtPoliMIBatchNormTrainer(ADNeXtTrainer):
    """The same with batch norm: the other arm of their comparison."""

    network_settings = NetworkSettings(name="polimi_cnn", options={"norm": "batch"})
    settings = POLIMI


class ADNeXtSwin3DTrainer(ADNeXtTrainer):
    """Video Swin-T, 28 M parameters; option `kinetics_weights` starts it as the paper does."""

    network_settings = NetworkSettings(name="swin3d_t")
    settings = DHINAGAR


class ADNeXtMiNiTTrainer(ADNeXtTrainer):
    """MiNiT, 3.6 M parameters; weight decay and warm-up from its own repository."""

    network_settings = NetworkSettings(name="minit")
    settings = replace(DHINAGAR, weight_decay=0.125, warmup_epochs=16)


class ADNeXtNiTTrainer(ADNeXtTrainer):
    """NiT, 1.9 M parameters; weight decay and warm-up from its own repository."""

    network_settings = NetworkSettings(name="nit")
    settings = replace(DHINAGAR, weight_decay=0.165, warmup_epochs=27)


class ADNeXtViTSmallTrainer(ADNeXtTrainer):
    """The scaled-down ViT, 8 M parameters."""

    network_settings = NetworkSettings(name="vit_small_mim")
    settings = DHINAGAR


class ADNeXtTinyDenseNetTrainer(ADNeXtTrainer):
    """Tiny-DenseNet, 1.5 M parameters."""

    network_settings = NetworkSettings(name="tiny_densenet")
    settings = replace(DHINAGAR, optimizer="adam")


class ADNeXtMedNeXtV2Trainer(ADNeXtTrainer):
    """MedNeXt-v2 encoder, 47 M parameters."""

    network_settings = NetworkSettings(name="mednext_v2")
    settings = MEDNEXT_V2


class ADNeXtMedNeXtV2WideTrainer(ADNeXtTrainer):
    """MedNeXt-v2 encoder of twice the width, 187 M parameters."""

    network_settings = NetworkSettings(name="mednext_v2_wide")
    settings = MEDNEXT_V2
