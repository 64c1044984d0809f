"""Runs in a Python program: train, evaluate, compare."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adnext_plugin.api.results import RunResults, read_results
from adnext_plugin.paths import CONFIGURATION, PLANS_NAME
from adnext_plugin.workflows import compare as comparing
from adnext_plugin.workflows import evaluate as evaluating
from adnext_plugin.workflows import evaluate_external as applying
from adnext_plugin.workflows import train as training
from adnext_plugin.workflows.common import DatasetRequest
from adnext_plugin.workflows.segmentation_datasets import require_people
from adnext_plugin.workflows.unnamed_trainer import trainer_that_was_trained, trainer_to_begin_with

if TYPE_CHECKING:
    from adnext_plugin.evaluation.studies.recalibration import Method


def train(
    dataset: str | int,
    fold: int | Literal["all", "cv"] = "cv",
    *,
    trainer: str | None = None,
    plans: str = PLANS_NAME,
    configuration: str = CONFIGURATION,
    pretrained_weights: str | PathLike[str] | None = None,
    seeds: int | None = None,
    device: str | None = None,
    num_gpus: int = 1,
    gpus: Sequence[int] = (),
    executor: str | None = None,
    resume: bool = False,
    restart: bool = False,
    tell: Callable[[str], None] = print,
    **settings: Any,
) -> training.Result:
    """Train a fold, or with "cv" every fold in turn and then evaluate, as `adnext_train` does.

    People or images on both sides of a fold are looked for first. nnU-Net writes its own log to the terminal and into
    the folds.

    Args:
        dataset: number or name of a preprocessed dataset.
        fold: its number; "all" for every case; "cv" for every fold in turn.
        trainer: one of `list_trainers`, of a labelled task or of pre-training; by default the one that planning
            recommends for this cohort and machine.
        plans, configuration: of the dataset.
        pretrained_weights: checkpoint whose encoder to begin with, or `builtin:NAME`; "{fold}" in its name stands for
            the fold.
        seeds: with "cv", under how many seeds in a row to repeat all of it.
        device: "cpu", "cuda" or "mps"; a GPU where there is one by default.
        num_gpus: to train on.
        gpus: with "cv", numbers of GPUs that each train a fold at a time.
        executor: with "cv", what several folds are trained on at once: "local:N", "slurm" or "dask://HOST:PORT".
        resume: go on with the run that is there, with its own settings. The same call without it goes on by itself.
        restart: set aside what is there and begin anew.
        tell: is given what was found before training, which seed is next, and how folds are.
        settings: of the trainer, for example `epochs=50, learning_rate=1e-4, seed=7`; docs/settings.md lists them.

    Returns:
        Where the run is (`run`, which `read_results` and `load_model` take), its folds, and the evaluation of a
        cross-validation.

    Raises:
        SplitError: a person or an image is on both sides of a fold, or was seen by the weights to begin with.
        AdnextError: see `adnext_plugin.errors`; the message says what is wrong, where, and what to do.
    """
    if trainer is None:
        which = DatasetRequest(dataset=dataset, plans=plans, configuration=configuration)
        trainer = trainer_to_begin_with(which, device, tell)
    request = training.Request(
        dataset=dataset,
        plans=plans,
        configuration=configuration,
        trainer=trainer,
        fold=fold,
        settings=settings,
        pretrained_weights=None if pretrained_weights is None else Path(pretrained_weights),
        seeds=seeds,
        device=device,
        num_gpus=num_gpus,
        gpus=tuple(map(str, gpus)),
        executor=executor,
        resume=resume,
        restart=restart,
    )
    return training.train(request, tell)


def evaluate(
    dataset: str | int,
    *,
    trainer: str | None = None,
    plans: str = PLANS_NAME,
    configuration: str = CONFIGURATION,
    external: str | int | None = None,
    recalibrate: "Method | None" = None,
    baselines: Sequence[Sequence[str]] = (),
    probes: Sequence[str] = (),
    sensitivity: float = 0.9,
    prevalences: Sequence[float] = (),
    resamples: int = 2000,
    device: str | None = None,
) -> RunResults:
    """Score a run on people that its networks had not seen, as `adnext_evaluate` does.

    Args:
        dataset, trainer, plans, configuration: which run; by default that of the only trainer that the dataset was
            trained with.
        external: number or name of a preprocessed dataset of other people, to which all networks are applied together,
            with their thresholds as they are.
        recalibrate: with `external`, "temperature", "intercept" or "logistic": also what probabilities would be worth
            once fitted to those people.
        baselines: columns of `subjects.csv` for linear models beside the one of age and sex, `[["age"], ["site"]]`.
        probes: columns to guess from the features of held-out scans, for example `["site"]`.
        sensitivity: that a further threshold is to reach on `selection`.
        prevalences: shares of positives among other people, for predictive values.
        resamples: of the bootstrap.
        device: for `external` and `probes`.

    Returns:
        The scores and predictions, as `read_results` reads them; all is in the run's folder, with figures and a report.

    Raises:
        AdnextError: see `adnext_plugin.errors`; the message says what is wrong, where, and what to do.
    """
    if trainer is None:
        named = DatasetRequest(dataset=dataset, plans=plans, configuration=configuration)
        trainer = trainer_that_was_trained(named)
    require_people(DatasetRequest(dataset=dataset).dataset_folder, "evaluate_segmentation")
    which: dict[str, Any] = {
        "dataset": dataset,
        "trainer": trainer,
        "plans": plans,
        "configuration": configuration,
        "resamples": resamples,
        "device": device,
    }
    if external is not None:
        applied = applying.evaluate_external(
            applying.Request(**which, external=external, recalibrate=recalibrate),
        )
        return read_results(applied.run, external=applied.external)
    request = evaluating.Request(
        **which,
        baselines=tuple(tuple(columns) for columns in baselines),
        sensitivity=sensitivity,
        prevalences=tuple(prevalences),
        probes=tuple(probes),
    )
    return read_results(evaluating.evaluate(request).run)


def compare(
    dataset: str | int,
    runs: Sequence[str | PathLike[str]],
    *,
    plans: str = PLANS_NAME,
    configuration: str = CONFIGURATION,
    resamples: int = 2000,
    output: str | PathLike[str] | None = None,
) -> comparing.Result:
    """Compare evaluated runs on the same people, as `adnext_compare` does.

    Args:
        dataset: number or name.
        runs: two or more; each a trainer's name, that of a run's folder, or a path to one.
        plans, configuration: complete trainers' names.
        resamples: of the bootstrap.
        output: JSON file to write all of it to.

    Returns:
        The comparison: of each run the AUC with its interval, of each pair the differences, tests and a conclusion.

    Raises:
        AdnextError: see `adnext_plugin.errors`; the message says what is wrong, where, and what to do.
    """
    request = comparing.Request.of(dataset, runs, plans, configuration, resamples, output)
    require_people(request.dataset_folder, "compare_segmentations")
    return comparing.compare(request)
