"""Which cases of a segmentation dataset are trained on: its folds, and of a fold's cases a few."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.crossval_split import generate_crossval_split

from adnext_plugin.errors import SegmentationError
from adnext_plugin.files import read_json, write_json
from adnext_plugin.paths import NNUNETS_FOLDS, SPLITS_FILE

SEED = 12345  # nnU-Net's


def draw_folds(folder: Path, images: Path, count: int | None, fold: int | str) -> None:
    """Make sure that there are folds, and the one that is asked for.

    Args:
        folder: the preprocessed dataset.
        images: the folder of its stored cases.
        count: of folds to draw where there are none; None leaves it to nnU-Net, which draws five.
        fold: that is trained.

    Raises:
        SegmentationError: others were drawn before, or there is no such fold. nnU-Net would make one up.
    """
    path = folder / SPLITS_FILE
    if not path.is_file() and count is not None:
        cases = sorted(infer_dataset_class(str(images)).get_identifiers(str(images)))
        if count > len(cases):
            raise SegmentationError(f"{count} folds of {len(cases)} cases cannot be drawn; set folds to fewer")
        write_json(generate_crossval_split(cases, seed=SEED, n_splits=count), path)
    known = len(read_json(path)) if path.is_file() else NNUNETS_FOLDS
    if count not in (None, known):
        raise SegmentationError(
            f"{path} has {known} folds, and {count} are asked for; leave out folds, or delete the file and train all "
            "of them again"
        )
    if fold != "all" and not 0 <= int(fold) < known:
        raise SegmentationError(f"there is no fold {fold} in {path}; give 0 to {known - 1}, or 'all'")


def take_cases(cases: Sequence[str], count: int, seed: int) -> list[str]:
    """Some of the cases, drawn under a seed; fewer are part of more.

    Raises:
        SegmentationError: there are not as many.
    """
    if count > len(cases):
        raise SegmentationError(f"n_train is {count}, and the fold has {len(cases)} cases to train on; take fewer")
    order = np.random.default_rng(seed).permutation(len(cases))
    names = sorted(cases)
    return sorted(names[place] for place in order[:count])
