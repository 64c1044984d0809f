"""Where things lie: the folders that nnU-Net names by environment variables, and how datasets and runs are called."""

import os
import re
from pathlib import Path

from adnext_plugin.errors import PathsError
from adnext_plugin.names import require_file_name, whole_number

CONFIGURATION = "3d_fullres"
PLANS_NAME = "ADNeXtPlans"
BRAIN_MASKS = "brain_masks"  # folder of a preprocessed dataset, with one inside for each method
BLOCK = "adnext"  # key of what is ours in files that nnU-Net reads, too: dataset.json, plans, checkpoints
DATASET_FILE = "dataset.json"
SEGMENTATION_BLOCK = "adnext_segmentation"  # key of what is ours in a configuration of nnU-Net's plans
BUNDLES = "bundles"  # folder of installed bundles in nnUNet_results
SUBJECTS_FILE = "subjects.csv"
REGIONS_FILE = "regions.csv"  # of a preprocessed dataset: volumes of regions of its cases
REGION_VOLUME = "_ml_per_l"  # how its columns of volumes end, per litre of intracranial volume
IMPORT_REPORT_FILE = "import_report.json"  # of a raw dataset: what came in and what did not
QUALITY_FOLDER, QUALITY_FILE = "quality", "quality.csv"  # of a preprocessed dataset: how odd its cases are
SPLITS_FILE = "splits_final.json"
NNUNETS_FOLDS = 5  # which it draws where there is no such file
PERMUTED_FOLDER = "permuted_"  # and a seed: folder of results of labels dealt out anew under it
FAST_FOLDER = "fast"  # folder of results of what was trained in miniature
SEED_FOLDER = "seed_"  # and a number: folder of results with what was trained again under that seed
METER_FOLDER = "inflation_meter"  # of a fold: predictions of its held-out part after every epoch
FITTED_STEPS_FILE = "fitted_steps.safetensors"  # of a fold: what preprocessing has learned from its training part


def raw_dir() -> Path:
    """Folder of raw datasets, from `nnUNet_raw`."""
    return _folder_from_environment("nnUNet_raw")


def preprocessed_dir() -> Path:
    """Folder of preprocessed datasets, from `nnUNet_preprocessed`."""
    return _folder_from_environment("nnUNet_preprocessed")


def results_dir() -> Path:
    """Folder of trained models, from `nnUNet_results`."""
    return _folder_from_environment("nnUNet_results")


def run_name(trainer: str, plans: str, configuration: str) -> str:
    """What nnU-Net calls the folder of a run, inside the dataset's folder of results.

    Raises:
        SettingsError: a name would lead to another folder.
    """
    for what, name in (("the trainer's name", trainer), ("the name of plans", plans)):
        require_file_name(name, what)
    require_file_name(configuration, "the name of a configuration")
    return require_file_name(f"{trainer}__{plans}__{configuration}", "the name of a run")


def plans_file(dataset_folder: Path, plans: str) -> Path:
    """The plans file of a preprocessed dataset, by the name of the plans.

    Raises:
        SettingsError: the name would lead to another folder.
    """
    return dataset_folder / f"{require_file_name(plans, 'the name of plans')}.json"


def hook_dir() -> Path:
    """The folder that nnU-Net finds our trainers in, to be listed in `nnUNet_extTrainer`."""
    return Path(__file__).parent / "nnunet_hook"


def dataset_folder_name(dataset: str | int, parents: list[Path]) -> str:
    """Full name of a dataset given by its number or name.

    Args:
        dataset: `101`, `"101"` or `"Dataset101_AD"`.
        parents: folders to look in, e.g. `[raw_dir()]`.

    Raises:
        PathsError: nothing or more than one thing goes by that number.
    """
    names = {path.name for parent in parents for path in parent.glob("Dataset*") if path.is_dir()}
    where = " or ".join(str(parent) for parent in parents)
    number = whole_number(str(dataset))
    if number is not None:
        matches = sorted(name for name in names if re.match(rf"Dataset0*{number}_", name))
        if len(matches) > 1:
            raise PathsError(f"dataset number {dataset} is used twice in {where}: {', '.join(matches)}; rename one")
        if matches:
            return matches[0]
    elif dataset in names:
        return str(dataset)
    if _is_imported(dataset, parents):
        raise PathsError(
            f"dataset {dataset} is imported but not prepared: there is none in {where}; run "
            f"adnext_plan_and_preprocess -d {dataset}"
        )
    raise PathsError(f"no dataset {str(dataset)!r} in {where}; import one with adnext_import, or check the folder")


def _is_imported(dataset: str | int, parents: list[Path]) -> bool:
    """Whether there is such a dataset among the raw ones, where these were not looked through."""
    raw = os.environ.get("nnUNet_raw")
    if not raw or Path(raw) in parents:
        return False
    try:
        return (Path(raw) / dataset_folder_name(dataset, [Path(raw)]) / DATASET_FILE).is_file()
    except PathsError:
        return False


def file_of_fold(path: str, fold: int | str) -> Path:
    """A file of a fold, for which "{fold}" stands in its path; a path without it is the same for all."""
    return Path(path.replace("{fold}", str(fold)))


def _folder_from_environment(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise PathsError(
            f'the environment variable {variable} is not set; point it at a folder: export {variable}="$PWD/{variable}"'
        )
    return Path(value)


def without_links(path: Path) -> Path:
    """The absolute path that links lead to. Links in a circle stay, and fail where the file is opened, with its name.

    `Path.resolve` raises a RuntimeError for those before Python 3.13.
    """
    return Path(os.path.realpath(path))
