"""`adnext_plan_and_preprocess`: fingerprint, plans, network inputs and folds of a raw dataset."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args

from adnext_plugin.choices import (
    AlignmentChoice,
    BiasCorrectionChoice,
    BrainExtractionChoice,
    FitWay,
    Interpolation,
)
from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import add_device_argument, add_processes_argument
from adnext_plugin.errors import SettingsError
from adnext_plugin.paths import CONFIGURATION, PLANS_NAME
from adnext_plugin.workflows.plan_and_preprocess import (
    PROCESSES,
    Request,
    open_executor,
    plan_and_preprocess,
    require_dataset,
)

if TYPE_CHECKING:
    from adnext_plugin.splits.drawing import Scheme


def build_parser() -> ArgumentParser:
    """The command's arguments: those of `nnUNetv2_plan_and_preprocess` that apply, and the plan's options."""
    parser = new_parser("adnext_plan_and_preprocess", "Plan a dataset, prepare its scans and draw its folds.")
    parser.add_argument("--dataset", "-d", nargs="+", required=True, help="dataset numbers or names")
    parser.add_argument(
        "--preset",
        default="default",
        help="default, coarse, paper, hcp, t1_mni, gm_modulated, medial_temporal, tissues, or a JSON file "
        "(default: default)",
    )
    parser.add_argument("--fit", choices=get_args(FitWay), help="keep true size, or stretch the brain's box")
    parser.add_argument("--interpolation", choices=get_args(Interpolation), help="default: linear")
    parser.add_argument("--input-size", type=int, nargs=3, metavar=("Z", "Y", "X"), help="network input, voxels")
    parser.add_argument("--spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="voxel size, mm")
    parser.add_argument(
        "--brain-extraction",
        choices=get_args(BrainExtractionChoice),
        help="for scans with a skull; those without are left alone (default: the preset's, deepbet)",
    )
    parser.add_argument("--brain-masks", metavar="WHERE", help="folder or pattern with {case_id} of your own masks")
    parser.add_argument("--hdbet-folds", type=int, metavar="N", help="networks of HD-BET to average (default: 5)")
    parser.add_argument("--no-hdbet-mirroring", action="store_true", help="8 times faster, a little less exact")
    parser.add_argument("--bias-correction", choices=get_args(BiasCorrectionChoice), help="default: none")
    parser.add_argument("--alignment", choices=get_args(AlignmentChoice), help="to MNI152 (default: none)")
    parser.add_argument("--plans", "-p", "-overwrite_plans_name", default=PLANS_NAME, help="name of the plans file")
    add_processes_argument(parser)
    parser.add_argument(
        "--executor",
        default=PROCESSES,
        help="dask: a Dask cluster of -np processes; dask://HOST:PORT: the cluster of that scheduler "
        "(default: processes of this machine)",
    )
    parser.add_argument(
        "--configurations", "-c", nargs="+", default=[CONFIGURATION], help=f"only {CONFIGURATION} exists"
    )
    folds = parser.add_argument_group("folds (default: 4, of people, balanced by class, site, sex and age)")
    folds.add_argument("--folds", type=int, metavar="K", help="so many folds")
    folds.add_argument("--repeats", type=int, metavar="R", help="cross-validate so often, the people dealt out anew")
    folds.add_argument(
        "--group-by", metavar="COLUMN", help="people with one value of this column of subjects.csv stay together"
    )
    folds.add_argument("--leave-one-out", action="store_true", help="with --group-by site: a fold for each site")
    add_device_argument(parser, "for brain extraction; ")
    parser.add_argument("--no-splits", action="store_true", help="no folds: data for adnext_evaluate --external only")
    parser.add_argument("--no_pp", "--no-pp", action="store_true", help="stop after planning")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    if arguments.configurations != [CONFIGURATION]:
        raise SettingsError(f"-c {' '.join(arguments.configurations)}: the only configuration is {CONFIGURATION}")
    requests = _requests(arguments)
    for request in requests:  # a wrong name is to be found before the first dataset is prepared
        require_dataset(request.dataset)
    status = 0
    with open_executor(arguments.executor, arguments.processes) as cluster:
        for request in requests:
            problems = plan_and_preprocess(request, print, cluster).problems
            for problem in problems:
                print(f"error: {problem}", file=sys.stderr)
            status = 2 if problems else status
    return status


def _requests(arguments: Namespace) -> list[Request]:
    options: dict[str, Any] = {
        "preset": arguments.preset,
        "preprocessing": _preprocessing(arguments),
        "plans": arguments.plans,
        "processes": arguments.processes,
        "only_plan": arguments.no_pp,
        "splits": not arguments.no_splits,
        "scheme": _scheme(arguments),
        "device": arguments.device,
    }
    return [Request(dataset=dataset, **options) for dataset in arguments.dataset]


def _scheme(arguments: Namespace) -> "Scheme | None":
    from adnext_plugin.splits.drawing import Scheme  # brings pandas, which --help can do without

    names = ("folds", "repeats", "group_by", "leave_one_out")
    return Scheme.asked(**{name: getattr(arguments, name) for name in names})


def _preprocessing(arguments: Namespace) -> dict[str, Any]:
    """Settings that the command line changes."""
    given = {
        "fit": arguments.fit,
        "interpolation": arguments.interpolation,
        "input_size_voxels": arguments.input_size,
        "spacing_mm": arguments.spacing,
        "brain_extraction": arguments.brain_extraction or ("mask_files" if arguments.brain_masks else None),
        "brain_mask_files": arguments.brain_masks,
        "hdbet_folds": arguments.hdbet_folds,
        "hdbet_mirroring": False if arguments.no_hdbet_mirroring else None,
        "bias_correction": arguments.bias_correction,
        "alignment": arguments.alignment,
    }
    return {name: value for name, value in given.items() if value is not None}
