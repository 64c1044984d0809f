"""Find out whether weights are worth anything before anything is trained with them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.builtin.weights import weights_file
from adnext_plugin.errors import SettingsError, SplitError, TableError, nearest_names
from adnext_plugin.settings import require_seed
from adnext_plugin.workflows.audit import check_weights
from adnext_plugin.workflows.common import (
    RunRequest,
    Tell,
    choose_device,
    require_resamples,
    say_nothing,
)
from adnext_plugin.workflows.trainer_lookup import find_trainer

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from adnext_plugin.findings import FrozenProbes
    from adnext_plugin.plan import NetworkSettings, Plan
    from adnext_plugin.trainers.fold_data import FoldData

USUAL_COLUMNS = ("age", "sex", "site", "scanner", "vendor", "field_strength")
USUAL_BESIDE = (("age", "sex"),)


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """Weights to look into, on a preprocessed dataset; `trainer` says which network they are of.

    `columns`: of subjects.csv; none: what the dataset is for, and what features should not be about. `baselines`:
    columns for further linear models. `seed`: of the random encoder. `other_people`: why ids that the weights have seen
    are those of different people. `output`: JSON file.
    """

    pretrained_weights: Path | None = None
    columns: tuple[str, ...] = ()
    baselines: tuple[tuple[str, ...], ...] = ()
    resamples: int = 2000
    seed: int = 42
    device: str | None = None
    other_people: str | None = None
    output: Path | None = None

    def __post_init__(self) -> None:
        require_seed("--seed", self.seed)


def probe(request: Request, tell: Tell = say_nothing) -> "FrozenProbes":
    """Read columns of `subjects.csv` off a frozen encoder, and off a random one, tissues and other columns beside it.

    Raises:
        AdnextError: the dataset is not prepared, or the weights are of another network.
        SplitError: the weights have seen people of the dataset.
        TableError: there is no such column.
    """
    import numpy as np

    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.studies.frozen import ENCODER, probe_column
    from adnext_plugin.evaluation.studies.reliability import reliability
    from adnext_plugin.evaluation.studies.tissues import tissue_litres
    from adnext_plugin.files import write_json
    from adnext_plugin.findings import FrozenProbes
    from adnext_plugin.prediction.encoded import encode
    from adnext_plugin.records import to_json
    from adnext_plugin.trainers.fold_data import open_data
    from adnext_plugin.training.weights import load_encoder

    resamples, device = require_resamples(request.resamples), choose_device(request.device)
    data = open_data(request.dataset_folder, request.plans, request.configuration)
    cohort = Cohort.open(request.dataset_folder)
    subjects = cohort.subjects.reset_index(drop=True)
    cohort = replace(cohort, subjects=subjects)
    columns = _columns(request, subjects, cohort.task.target)
    crop, plan = _network_plan(request, data)
    size = plan.preprocessing.input_size_voxels if crop is None else crop
    if request.pretrained_weights is not None:
        tell(_require_unseen(request, subjects))

    cases = subjects["case_id"].tolist()
    store = data.store(cases)
    store.keep_in_memory()
    spacing_mm = plan.preprocessing.spacing_mm
    features: dict[str, np.ndarray] = {}
    if request.pretrained_weights is not None:
        network = _fresh(plan.network, len(data.channels), size, request.seed)
        file = weights_file(request.pretrained_weights, "all")
        tell(f"Weights from {request.pretrained_weights}: {load_encoder(network, file)}")
        features[ENCODER] = encode(network, store, device, crop)
    untrained = encode(
        _fresh(plan.network, len(data.channels), size, request.seed), store, device, crop, "Random encoder"
    )
    features["random encoder" if features else ENCODER] = untrained
    features["tissue volumes"] = np.stack([tissue_litres(store[index][0], spacing_mm) for index in range(len(cases))])

    beside = tuple(dict.fromkeys([*USUAL_BESIDE, *request.baselines]))
    found = FrozenProbes(
        dataset=cohort.name,
        network=str(plan.network.name),
        weights=None if request.pretrained_weights is None else str(request.pretrained_weights),
        features=features[ENCODER].shape[1],
        columns=tuple(probe_column(cohort, column, features, beside, resamples) for column in columns),
        reliability={
            name: one
            for name, values in features.items()
            if (one := reliability(values, subjects["subject_id"].tolist(), cases)) is not None
        },
    )
    if request.output is not None:
        write_json(to_json(found), request.output)
    return found


def _columns(request: Request, subjects: "pd.DataFrame", target: str | None) -> tuple[str, ...]:
    """Those asked for, or the usual ones that there are.

    Raises:
        TableError: there is no such column, or none at all.
    """
    asked = (*request.columns, *(name for columns in request.baselines for name in columns))
    for name in asked:
        if name not in subjects:
            raise TableError(f"subjects.csv has no column {name!r}{nearest_names(name, map(str, subjects))}")
    usual = [name for name in (target, *USUAL_COLUMNS) if name is not None and name in subjects]
    columns = tuple(dict.fromkeys(request.columns or usual))
    if not columns:
        raise TableError("subjects.csv has nothing to be told from scans; name a column with --columns")
    return columns


def _network_plan(request: Request, data: "FoldData") -> "tuple[Any, Plan]":
    """What the trainer's networks are fed, None for the whole scan, and the plan with the network in it.

    Raises:
        SettingsError: the trainer is not one of ours, or scans are changed by what each fold has learned.
    """
    from adnext_plugin.preprocessing.chain import fitted_steps_of
    from adnext_plugin.trainers.lifecycle import RunTrainer
    from adnext_plugin.training.plan_resolution import merge_network

    trainer = find_trainer(request.trainer)
    if not issubclass(trainer, RunTrainer):
        raise SettingsError(f"{request.trainer} is nnU-Net's own and has no encoder to probe; use one of adnext_list")
    if fitted_steps_of(data.plan.preprocessing):
        raise SettingsError("the plan has steps that each fold learns by itself; such datasets cannot be probed yet")
    network = merge_network(data.plan.network, trainer.network_settings, f"plans {request.plans}")
    return getattr(trainer.settings, "crop_voxels", None), replace(data.plan, network=network)


def _require_unseen(request: Request, subjects: "pd.DataFrame") -> str:
    """One line about weights that have seen nobody of the dataset.

    Raises:
        SplitError: they have.
        SettingsError: they differ from fold to fold.
    """
    weights = request.pretrained_weights
    assert weights is not None
    if "{fold}" in str(weights):
        raise SettingsError(f"{weights}: one encoder is probed at a time; give the weights of one fold, not {{fold}}")
    if request.other_people is not None and not request.other_people.strip():
        raise SettingsError("--other-people needs a reason")
    check = check_weights(weights_file(weights, "all"), subjects, are_other_people=request.other_people is not None)
    if check.leaks:
        raise SplitError(
            f"{check.leaks[0].replace('is held out', 'is in the dataset')} ({len(check.leaks)} in all): features of "
            "people whom an encoder was trained on look better than they are. Probe weights that were trained without "
            "them or, where equal ids are those of different people, say why: --other-people REASON"
        )
    return f"{check.name}: {check.answer} ({check.looked_at})"


def _fresh(network: "NetworkSettings", in_channels: int, size_voxels: tuple[int, int, int], seed: int) -> "nn.Module":
    import torch

    from adnext_plugin.networks.build import build_network

    torch.manual_seed(seed)
    return build_network(network, in_channels, 2, size_voxels)
