"""Networks trained under equal conditions on one dataset, before one of them is scaled up.

Each is trained on the same folds, for as many steps as take the same time on the device, or for the same number of
steps, and all are compared on the same held-out people. Source of the idea: MedNeXt-v2 (2025).
"""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adnext_plugin.errors import SettingsError, UnknownNameError, nearest_names
from adnext_plugin.files import write_json
from adnext_plugin.formats import Format
from adnext_plugin.paths import results_dir
from adnext_plugin.records import to_json
from adnext_plugin.registry import NETWORKS, registered_names
from adnext_plugin.workflows import backbone_arms as arms_of
from adnext_plugin.workflows import train as training
from adnext_plugin.workflows.common import DatasetRequest, Tell, choose_device, require_resamples, say_nothing
from adnext_plugin.workflows.segmentation_datasets import has_segmentations

if TYPE_CHECKING:
    from adnext_plugin.evaluation.studies.backbones import Backbone, BackbonePair
    from adnext_plugin.networks.training_costs import TrainingCosts

BACKBONES = Format(
    name="adnext_backbones",
    version=1,
    known_by="rank_correlation",
    words="what adnext_benchmark_backbones writes",
    remedy="run adnext_benchmark_backbones again",
)
DECIDED = ("epochs", "steps_per_epoch", "validation_steps", "pretrained_weights")  # by the benchmark itself


@dataclass(frozen=True, kw_only=True)
class Request(DatasetRequest):
    """Which networks on which dataset.

    `budget_minutes`: of training in one fold. `equal`: what is the same for all: the seconds of the device, or the
    number of steps, which is then what the slowest network makes in the budget. `pretrained`: checkpoints by network,
    for a further arm of each. `settings`: of the trainers. `output`: JSON file; beside the runs if None.
    """

    networks: tuple[str, ...]
    budget_minutes: float
    equal: Literal["seconds", "steps"] = "seconds"
    pretrained: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    resamples: int = 2000
    output: Path | None = None

    def __post_init__(self) -> None:
        require_resamples(self.resamples)
        if len(set(self.networks)) < 2 or len(set(self.networks)) < len(self.networks):
            raise SettingsError(
                f"--networks needs at least two different networks, got {', '.join(self.networks) or 'none'}"
            )
        known = registered_names(NETWORKS)
        for name in self.networks:
            if name not in known:
                raise UnknownNameError(f"no network {name!r}{nearest_names(name, known)}")
        if not self.budget_minutes > 0:
            raise SettingsError(f"--budget must be positive, got {self.budget_minutes}")
        for name in self.pretrained:
            if name not in self.networks:
                raise SettingsError(f"--pretrained names {name!r}, which is none of --networks")
        for name in self.settings:
            if name in DECIDED:
                raise SettingsError(f"--set {name}: the benchmark decides that itself; leave it out")

    @property
    def key(self) -> str:
        """Tells this benchmark from others of the dataset. Under equal seconds networks may come and go."""
        shared = [
            self.plans,
            self.configuration,
            float(self.budget_minutes),
            self.equal,
            dict(self.settings),
            self.device,
        ]
        return arms_of.digest([*shared, sorted(self.networks) if self.equal == "steps" else []])


@dataclass(frozen=True, kw_only=True)
class Result:
    """The best first, all pairs, and whether pre-training keeps the order; `score` is what `backbones` have."""

    dataset: str
    score: str
    equal: str
    backbones: "tuple[Backbone, ...]"
    pairs: "tuple[BackbonePair, ...]"
    rank_correlation: float | None
    warnings: tuple[str, ...]
    file: Path


def benchmark_backbones(request: Request, tell: Tell = say_nothing) -> Result:
    """Time a step of every network, train all of them, compare and rank them.

    What is trained already under the same command is not trained again.

    Args:
        request: what to train.
        tell: is told what a step takes, and which network is next.

    Raises:
        PathsError: there is no such dataset, or it is not prepared.
        SettingsError: the dataset has no classes to tell apart and no segmentations, a network cannot be trained on it,
            or the budget is too small.
    """
    from adnext_plugin.evaluation.studies.backbones import Backbone, rank_correlation, ranked

    kind = arms_of.Segmentations if has_segmentations(request.dataset_folder) else arms_of.People
    key = request.key
    contest: arms_of.Contest = kind(request, request.settings, key)
    costs = {name: _costs(contest, request, name, key, tell) for name in request.networks}
    steps = {name: request.budget_minutes * 60 / one.step_s for name, one in costs.items() if one.step_s}
    if request.equal == "steps":
        steps = dict.fromkeys(steps, min(steps.values()))
    arms: list[tuple[str, str | None]] = [(name, None) for name in request.networks]
    arms += request.pretrained.items()
    plans = [contest.plan(name, weights, steps[name], asdict(costs[name])) for name, weights in arms]
    seconds = [_trained(contest, request, plan, weights, tell) for plan, (_, weights) in zip(plans, arms, strict=True)]
    found = contest.compared(plans, request.resamples)
    backbones = [
        Backbone(
            network=name,
            pretrained=weights is not None,
            run=plan.run.path.name,
            parameters=costs[name].parameters or 0,
            step_s=costs[name].step_s or 0.0,
            peak_bytes=costs[name].peak_bytes,
            steps=plan.steps,
            trained_s=took,
            score=score,
        )
        for (name, weights), plan, took, score in zip(arms, plans, seconds, found.scores, strict=True)
    ]
    result = Result(
        dataset=request.dataset_folder.name,
        score=contest.score,
        equal=request.equal,
        backbones=ranked(backbones),
        pairs=found.pairs([one.name for one in backbones]),
        rank_correlation=rank_correlation(backbones),
        warnings=found.warnings,
        file=request.output or results_dir() / request.dataset_folder.name / "backbones.json",
    )
    write_json(BACKBONES.stamped(_content(result, request)), result.file)
    return result


def _costs(contest: "arms_of.Contest", request: Request, name: str, key: str, tell: Tell) -> "TrainingCosts":
    """Measured once, so that the same command comes to the same number of steps."""
    from adnext_plugin.networks.training_costs import TrainingCosts, measure

    stored = arms_of.stored_costs(request, name, key)
    if stored is not None:
        return TrainingCosts(**stored)
    shape, device = contest.shape(name), choose_device(request.device)
    costs = measure(name, shape.in_channels, shape.outputs, shape.size, shape.batch, device, shape.decoder)
    if costs.problem:
        raise SettingsError(f"{name} cannot be trained here: {costs.problem}")
    tell(f"{name}: {costs.parameters:,} parameters, {costs.step_s:.3g} s a step of {shape.batch} on {device}")
    return costs


def _trained(
    contest: "arms_of.Contest", request: Request, plan: "arms_of.Arm", weights: str | None, tell: Tell
) -> float | None:
    """Seconds on the clock; None where nothing was left to do."""
    done = contest.is_trained(plan)
    tell(f"{plan.run.path.name}: {plan.steps} steps in each fold{', trained already' if done else ''}")
    if done:
        return None
    start = time.monotonic()
    job = training.Request(
        dataset=request.dataset,
        plans=plan.run.plans,
        configuration=request.configuration,
        trainer=plan.run.trainer,
        fold="cv",
        settings=plan.settings,
        pretrained_weights=weights,
        device=request.device,
    )
    training.train(job, tell)
    return time.monotonic() - start


def _content(result: Result, request: Request) -> dict[str, Any]:
    return {
        "warnings": list(result.warnings),
        "dataset": result.dataset,
        "score": result.score,
        "budget_minutes": request.budget_minutes,
        "equal": result.equal,
        "settings": dict(request.settings),
        "resamples": request.resamples,
        "backbones": [to_json(one) for one in result.backbones],
        "pairs": [to_json(one) for one in result.pairs],
        "rank_correlation": result.rank_correlation,
    }
