"""Why AD-NeXt hardly learns from a few hundred scans: its signals at initialisation and along a short training.

    python benchmarks/recipe_diagnosis.py --dataset nnUNet_preprocessed/Dataset203_OasisSex

AD-NeXt-T is trained on fold 0 of a prepared dataset (benchmarks/recipe_study.py prepares one), with either
initialisation and either norm in its head, everything else equal. Written down are, before training: the size of the
signal after each part, how much of the spatial mean of each part is a scan's own rather than everybody's, gradients
relative to weights; and for every epoch: training loss, ranking of the training scans, and how much of the features
that enter the last layer is the scan's own. Writes benchmarks/results/recipe_diagnosis.json and
docs/images/recipe_diagnosis.png. Held-out scans are not used.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from adnext_plugin.cpu_memory import keep_large_buffers
from adnext_plugin.data.augmentation import Augmentation
from adnext_plugin.networks.families.adnext import ADNeXt, adnext_t
from adnext_plugin.settings import TrainerSettings
from adnext_plugin.trainers.fold_data import FoldData, open_data
from adnext_plugin.training.provenance import provenance

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "recipe_diagnosis.json"
FIGURE = ROOT / "docs" / "images" / "recipe_diagnosis.png"
VARIANTS = {
    "paper": {"init": "paper", "head_norm": "layer"},
    "fan_in": {"init": "fan_in", "head_norm": "layer"},
    "batch norm in the head": {"init": "paper", "head_norm": "batch"},
    "fan_in, batch norm in the head": {"init": "fan_in", "head_norm": "batch"},
}
SCANS_AT_START = 64
SEED = 1


def main() -> None:
    """Measure every variant, write the result and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="preprocessed dataset of two classes")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    arguments = parser.parse_args()
    keep_large_buffers()
    data = replace(open_data(arguments.dataset, "ADNeXtPlans", "3d_fullres"), fold=0)
    settings = TrainerSettings(batch_size=8, learning_rate=arguments.learning_rate, seed=SEED)
    result = {
        "made_by": provenance(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())),
        "dataset": arguments.dataset.name,
        "cases": len(data.parts["train"]),
        "learning_rate": arguments.learning_rate,
        "batch_size": settings.batch_size,
        "variants": {},
    }
    for name, options in VARIANTS.items():
        network = _build(data, options)
        found = {"options": options, "at_start": _at_start(network, data, settings)}
        found["epochs"] = _train(network, data, settings, arguments.epochs)
        result["variants"][name] = found
        print(name, json.dumps(found["epochs"][-1]), flush=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    _draw(result)


def _build(data: FoldData, options: dict) -> ADNeXt:
    torch.manual_seed(SEED)
    return adnext_t(1, 2, data.plan.preprocessing.input_size_voxels, drop_path_rate=0.0, **options)


def own_share(features_bc: torch.Tensor) -> float:
    """Of the mean square of features (B, C), the part that differs between scans."""
    between = features_bc.var(dim=0, unbiased=False).mean()
    return float(between / features_bc.square().mean())


def _at_start(network: ADNeXt, data: FoldData, settings: TrainerSettings) -> dict:
    parts = {"stem": network.encoder.stem}
    parts |= {f"stage {number}": stage for number, stage in enumerate(network.encoder.stages, 1)}
    outputs = {}
    for name, part in parts.items():
        part.register_forward_hook(lambda _, __, out, name=name: outputs.__setitem__(name, out.detach()))
    loader = data.loader(data.parts["train"][:SCANS_AT_START], replace(settings, batch_size=SCANS_AT_START))
    batch = next(loader.batches(epoch=0))
    head_features = network.head.seg_layers[0](network.encoder(batch.images).mean(dim=(1, 2, 3)))
    nn.functional.cross_entropy(network.head.seg_layers[1](head_features), batch.targets).backward()
    signals = {
        name: {"rms": float(out.square().mean().sqrt()), "own_share": own_share(out.mean(dim=(1, 2, 3)))}
        for name, out in outputs.items()
    }
    for name, part in parts.items():
        weights = [p for p in part.parameters() if p.ndim > 1]
        signals[name]["gradient_over_weight"] = float(
            sum(p.grad.square().sum() for p in weights).sqrt() / sum(p.detach().square().sum() for p in weights).sqrt()
        )
        part._forward_hooks.clear()
    network.zero_grad()
    return {
        "parts": signals,
        "own_share_entering_last_layer": own_share(head_features.detach()),
        "background_share_of_voxels": float((batch.images == 0).float().mean()),
    }


def _train(network: ADNeXt, data: FoldData, settings: TrainerSettings, epochs: int) -> list[dict]:
    change = Augmentation("anatomical", data.plan.preprocessing.input_size_voxels)
    loader = data.loader(data.parts["train"], settings, change=change, shuffle=True)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=0.05)
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=steps, pct_start=0.1)
    entering = []
    network.head.seg_layers[0].register_forward_hook(lambda _, __, out: entering.append(out.detach()))
    history = []
    for epoch in range(epochs):
        losses, scores, targets = [], [], []
        entering.clear()
        for batch in loader.batches(epoch):
            logits = network(batch.images)
            loss = nn.functional.cross_entropy(logits, batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            scores += (logits[:, 1] - logits[:, 0]).tolist()
            targets += batch.targets.tolist()
        shares = [own_share(features) for features in entering]
        history.append(
            {
                "loss": float(np.mean(losses)),
                "auc_of_training_scans": float(roc_auc_score(targets, scores)),
                "own_share_entering_last_layer": float(np.mean(shares)),
            }
        )
    return history


def _draw(result: dict) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for name, found in result["variants"].items():
        epochs = range(1, len(found["epochs"]) + 1)
        axes[0].plot(epochs, [epoch["own_share_entering_last_layer"] for epoch in found["epochs"]], label=name)
        axes[1].plot(epochs, [epoch["loss"] for epoch in found["epochs"]])
        axes[2].plot(epochs, [epoch["auc_of_training_scans"] for epoch in found["epochs"]])
    for axis, title in zip(
        axes, ("share of a scan's own in the features", "training loss", "AUC of training scans"), strict=True
    ):
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
    axes[0].set(yscale="log", ylim=(1e-4, 2))
    axes[0].legend(fontsize=8)
    figure.savefig(FIGURE, dpi=110)


if __name__ == "__main__":
    main()
