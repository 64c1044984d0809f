"""What the networks of a run make of the scans that they never saw, before they answer."""

from dataclasses import dataclass

import numpy as np

from adnext_plugin.cohort import Cohort
from adnext_plugin.errors import SettingsError
from adnext_plugin.prediction.ensemble import read_stored
from adnext_plugin.prediction.from_run import read_run
from adnext_plugin.prediction.inputs import read_inputs
from adnext_plugin.prediction.model import FoldNetwork
from adnext_plugin.progress import progress_bar
from adnext_plugin.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class HeldOutFeatures:
    """Of every held-out case, by the network of the fold that holds it out: `folds` (N,), `features` (N, D).

    Of a repeated cross-validation the first repeat counts.
    """

    case_ids: tuple[str, ...]
    folds: np.ndarray
    features: np.ndarray


def held_out_features(run: RunFolder, cohort: Cohort, device: str) -> HeldOutFeatures:
    """Features of each fold's held-out scans, from the checkpoint that the fold was evaluated with.

    Args:
        run: folder of a cross-validated and evaluated run.
        cohort: the preprocessed dataset that it was trained on.
        device: cpu, cuda or mps.

    Raises:
        AdnextError: the run or the dataset is not complete any more.
        SettingsError: the network does not end in a layer whose input could be taken.
    """
    numbers = cohort.repeats[0]
    model = read_run(run, [str(fold) for fold in numbers])
    cases, folds, features = [], [], []
    networks = [FoldNetwork(model, fold, device) for fold in range(len(numbers))]
    inputs = read_inputs(str(cohort.folder), model.description, networks[0].columns, {}, "")
    places = {scan.case_id: index for index, scan in enumerate(inputs.scans)}
    for fold, network in zip(numbers, networks, strict=True):
        for case in progress_bar(sorted(cohort.splits[fold]["val"]), desc=f"Features of fold {fold}", unit="case"):
            index = places[case]
            stored = read_stored(inputs, index, model.description)
            _, found = network(stored.image_czyx, inputs.columns.iloc[[index]])
            if found is None:
                raise SettingsError(
                    f"{run.path.name}: its network has no last linear layer whose input could be probed"
                )
            cases.append(case)
            folds.append(fold)
            features.append(found)
    return HeldOutFeatures(case_ids=tuple(cases), folds=np.array(folds), features=np.stack(features))
