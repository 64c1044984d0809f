"""`adnext_train`: nnU-Net's training command with our trainers, whole cross-validations and checked settings."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.evaluation_text import print_evaluation, print_files
from adnext_plugin.cli.runs import (
    RECOMMENDED,
    add_device_argument,
    add_plans_argument,
    add_trainer_argument,
    read_settings,
    recommended,
)
from adnext_plugin.errors import SettingsError
from adnext_plugin.names import names_in
from adnext_plugin.paths import FAST_FOLDER
from adnext_plugin.settings import FAST_EPOCHS, FAST_SUBJECTS
from adnext_plugin.workflows.train import Request, train

# settings of a trainer that have an option of their own, by the option
SETTINGS = {
    "protocol": "protocol",
    "seed": "seed",
    "permute": "permute_labels",
    "skip_audit": "skip_audit",
    "other_people": "other_people",
    "inflation_meter": "inflation_meter",
    "n_train": "n_train",
    "fast": "fast",
}


def build_parser() -> ArgumentParser:
    """The command's arguments: those of `nnUNetv2_train`, and a few of our own."""
    parser = new_parser("adnext_train", "Train one fold, or with 'cv' every fold in turn and then evaluate.")
    add_arguments(parser)
    parser.add_argument(
        "--protocol",
        choices=["honest", "paper"],
        help="'paper' chooses the epoch on the held-out fold, as published; results are stamped OPTIMISTIC",
    )
    parser.add_argument(
        "--permute",
        type=int,
        metavar="SEED",
        help="deal all labels out anew among subjects, so that there is nothing to learn; results go to a folder "
        "permuted_SEED of nnUNet_results and are stamped PERMUTED",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="with cv: repeat the whole cross-validation under N seeds in a row, from --seed on; further ones go to "
        "folders seed_SEED of nnUNet_results, and adnext_evaluate reports their spread",
    )
    parser.add_argument(
        "--gpus",
        metavar="0,1,...",
        help="with cv: train several folds (and seeds) at once, one on each of these GPUs; the results are the same",
    )
    parser.add_argument(
        "--executor",
        metavar="local:N|slurm|dask",
        help="with cv: train several folds (and seeds) at once: N on this machine, each as a job of Slurm "
        "(slurm:KEY=VALUE,... with options of sbatch), or on a Dask cluster (dask://HOST:PORT); a fold that is killed "
        "goes on",
    )
    parser.add_argument(
        "--inflation-meter",
        action="store_true",
        default=None,
        help="also predict the held-out fold after every epoch, so that adnext_evaluate can show by how much the "
        "paper's protocol would overstate this very run; nothing else changes",
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        default=None,
        help=f"a rehearsal of everything in minutes: {FAST_EPOCHS} epochs (or those of --set epochs) on "
        f"{FAST_SUBJECTS} people of each fold; results go to a folder {FAST_FOLDER} of nnUNet_results and are stamped "
        "FAST",
    )
    parser.add_argument(
        "--n-train",
        "--n_train",
        type=int,
        metavar="N",
        help="of a segmentation: train on so many cases of the fold's training part; fewer are part of more",
    )
    parser.add_argument(
        "--skip-audit",
        metavar="REASON",
        help="do not look for people or images on both sides of a fold; results are stamped, and the reason is kept "
        "with the data",
    )
    parser.add_argument(
        "--other-people",
        metavar="REASON",
        help="ids that the first weights have seen, too, are those of different people, as where two sites both number "
        "sub-01; images are still compared, and results are stamped; the reason is kept with the data",
    )
    return parser


def add_arguments(parser: ArgumentParser, *, trainer: str | None = None, fold: str | None = None) -> None:
    """Add what all training commands take; with a default for trainer or fold, it may be left out."""
    parser.add_argument("dataset", help="dataset number or name, e.g. 101")
    parser.add_argument("configuration", help="configuration of the plans, e.g. 3d_fullres")
    parser.add_argument(
        "fold",
        nargs="?" if fold else None,
        default=fold,
        help="fold number; 'all' to train on every case; 'cv' for every fold in turn",
    )
    add_trainer_argument(parser, RECOMMENDED, trainer)
    add_plans_argument(parser)
    add_device_argument(parser)
    parser.add_argument(
        "--num-gpus",
        "-num_gpus",
        type=int,
        default=1,
        help="GPUs to train on, or with -device cpu processes (default: 1)",
    )
    parser.add_argument(
        "--pretrained-weights",
        "-pretrained_weights",
        help="checkpoint whose encoder to start from, or builtin:NAME (adnext_weights); '{fold}' in its name stands "
        "for the fold",
    )
    parser.add_argument(
        "--continue",
        "--c",
        dest="resume",
        action="store_true",
        help="go on with the run that is there, with its own settings, which need not be given again; the same command "
        "without it goes on by itself",
    )
    parser.add_argument(
        "--restart", action="store_true", help="begin anew; what is there is set aside in a folder earlier_run_TIME"
    )
    parser.add_argument("--val", action="store_true", help="only predict the held-out fold; training must be finished")
    parser.add_argument(
        "--val_best", "--val-best", action="store_true", help="predict with checkpoint_best in any case"
    )
    parser.add_argument("--disable_checkpointing", "--disable-checkpointing", action="store_true", help="save nothing")
    parser.add_argument("--npz", action="store_true", help="accepted; probabilities are always saved")
    parser.add_argument(
        "--logger",
        action="append",
        default=[],
        metavar="NAME",
        help="also keep the curves of training with tensorboard, mlflow or wandb (extras of the same names); only "
        "numbers of epochs and settings are sent",
    )
    parser.add_argument("--seed", type=int, help="of weights, order and augmentation")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the trainer, e.g. --set epochs=50 --set learning_rate=1e-4",
    )


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run(build_parser().parse_args(argv))


def run(arguments: Namespace) -> int:
    """Train what parsed arguments ask for."""
    result = train(_request(recommended(arguments)), tell=print, show_scores=print_evaluation)
    if result.evaluation is not None:
        print_files(result.evaluation)
    return 0


def _request(arguments: Namespace) -> Request:
    return Request(
        dataset=arguments.dataset,
        configuration=arguments.configuration,
        fold=arguments.fold,
        trainer=arguments.trainer,
        plans=arguments.plans,
        settings=_settings(arguments),
        pretrained_weights=arguments.pretrained_weights,
        seeds=getattr(arguments, "seeds", None),
        device=arguments.device,
        num_gpus=arguments.num_gpus,
        gpus=_gpus(getattr(arguments, "gpus", None)),
        executor=getattr(arguments, "executor", None),
        loggers=tuple(arguments.logger),
        resume=arguments.resume,
        restart=arguments.restart,
        only_validate=arguments.val,
        validate_best=arguments.val_best,
        disable_checkpointing=arguments.disable_checkpointing,
    )


def _gpus(text: str | None) -> tuple[str, ...]:
    names = names_in(text or "")
    if text is not None and not names:
        raise SettingsError(f"--gpus {text!r} names no GPU; give their numbers, e.g. --gpus 0,1, or leave it out")
    return names


def _settings(arguments: Namespace) -> dict[str, Any]:
    settings = read_settings(arguments.set, "write it as KEY=VALUE, e.g. --set epochs=50")
    for option, setting in SETTINGS.items():
        if getattr(arguments, option, None) is not None:
            settings[setting] = getattr(arguments, option)
    return settings
