"""Which trainer is meant where none is named: what planning recommends, or the one that was trained."""

from adnext_plugin.errors import PathsError
from adnext_plugin.paths import results_dir
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.workflows.common import DatasetRequest, Tell, say_nothing, trains_on_gpu
from adnext_plugin.workflows.segmentation_datasets import with_nnunets_plans


def trainer_to_begin_with(which: DatasetRequest, device: str | None = None, tell: Tell = say_nothing) -> str:
    """The trainer that planning recommends for this cohort and machine.

    Args:
        which: a preprocessed dataset.
        device: to train on; None for a GPU where there is one.
        tell: is told the trainer, and why.

    Raises:
        PathsError: there is no such dataset.
        SettingsError: the task in `dataset.json` is none, or scans have no target to learn.
        SplitError: folds cannot be drawn.
    """
    from adnext_plugin.cohort import Cohort
    from adnext_plugin.plans.advice import recommended_trainer

    cohort = Cohort.open(which.dataset_folder)
    learn_from = cohort.rows(cohort.splits[0]["train"])["subject_id"].nunique()
    has_gpu = trains_on_gpu(device)
    trainer = recommended_trainer(learn_from, has_gpu=has_gpu)
    where = "a GPU" if has_gpu else "this CPU"
    tell(f"Training {trainer}, recommended for {learn_from} subjects a fold on {where}; name another with -tr.")
    return trainer


def trainer_that_was_trained(which: DatasetRequest, tell: Tell = say_nothing) -> str:
    """The one trainer of which there are folds of this dataset.

    Args:
        which: a preprocessed dataset, its plans and configuration.
        tell: is told the trainer.

    Raises:
        PathsError: there is no such dataset, nothing was trained on it, or several trainers were.
    """
    which = with_nnunets_plans(which)
    dataset = which.dataset_folder.name
    pattern = RunFolder.of(dataset, "*", which.plans, which.configuration).path.name
    runs = [RunFolder(path) for path in sorted((results_dir() / dataset).glob(pattern)) if path.is_dir()]
    trained = [run.trainer for run in runs if any(fold.name != "all" for fold in run.folds())]
    if not trained:
        command = f"adnext_train {which.dataset} {which.configuration} cv"
        raise PathsError(f"no fold of {dataset} has been trained under {which.plans}; train with {command}")
    if len(trained) > 1:
        raise PathsError(f"{dataset} has runs of {', '.join(trained)}; say which with -tr")
    tell(f"Run: {trained[0]}, the only one of {dataset}.")
    return trained[0]
