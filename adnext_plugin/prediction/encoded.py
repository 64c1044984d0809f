"""What a frozen encoder makes of scans."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from adnext_plugin.data.centre import CentreCrop
from adnext_plugin.data.store import CaseStore
from adnext_plugin.networks.features import encoder_of, pool_of
from adnext_plugin.progress import progress_bar
from adnext_plugin.training.precision import Arithmetic

BATCH = 4


@torch.inference_mode()
def encode(
    network: nn.Module, store: CaseStore, device: str, crop_voxels: Sequence[int] | None = None, what: str = "Features"
) -> np.ndarray:
    """Features of all scans of a store, (N, D) float64.

    Args:
        network: with an encoder.
        store: the scans.
        device: cpu, cuda or mps.
        crop_voxels: (Z, Y, X) to cut from the middle of each; None to take it whole.
        what: the progress is of.

    Raises:
        SettingsError: the network has no encoder.
    """
    encoder, pool = encoder_of(network, type(network).__name__), pool_of(network)
    network.eval().to(torch.device(device))
    cut = None if crop_voxels is None else CentreCrop(crop_voxels)
    # what sets people apart can be a small part of features
    arithmetic = Arithmetic(precision="float32", device=torch.device(device))
    found = []
    for start in progress_bar(range(0, len(store), BATCH), desc=what, unit="batch"):
        images = [
            torch.from_numpy(store[index].astype(np.float32)) for index in range(len(store))[start : start + BATCH]
        ]
        scans = torch.stack([image if cut is None else cut(image, 0) for image in images]).to(torch.device(device))
        with arithmetic():
            found.append(pool(encoder(scans)).float().cpu().double().numpy())
    return np.concatenate(found)
