"""`adnext_demo`: the whole pipeline, through other workflows, on a phantom cohort whose truth is known."""

from argparse import ArgumentParser
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.evaluation_text import print_evaluation, print_files
from adnext_plugin.workflows.demo import Request, run_demo

SUBJECTS, EPOCHS = (120, 24), (30, 3)  # usually, and with --fast


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_demo", "Run everything on phantom brains made from the MNI152 template; no download.")
    parser.add_argument("--output", type=Path, default=Path("adnext_demo"), help="folder (default: %(default)s)")
    parser.add_argument("--subjects", type=int, help=f"people, half of them patients (default: {_default(SUBJECTS)})")
    parser.add_argument("--effect", type=float, default=1.0, help="size of the disease; 0: none (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the cohort and the training (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help=f"default: {_default(EPOCHS)}")
    parser.add_argument(
        "--fast", action="store_true", help="everything in miniature, to see it go through; nothing can be learned so"
    )
    parser.add_argument(
        "--device",
        "-device",
        choices=["cuda", "cpu", "mps"],
        default="cpu",
        help="default: %(default)s, on any machine",
    )
    return parser


def _default(sizes: tuple[int, int]) -> str:
    usual, fast = sizes
    return f"{usual}, with --fast {fast}"


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    for name, sizes in (("subjects", SUBJECTS), ("epochs", EPOCHS)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, sizes[arguments.fast])
    request = Request(**vars(arguments))
    result = run_demo(request, partial(print, flush=True), print_evaluation)
    evaluation = result.training.evaluation
    assert evaluation is not None  # of a cross-validation with labels
    print_files(evaluation)
    print(f"\nThe truth about this cohort (effect {request.effect:g}):")
    for line in result.truth:
        print(f"  {line}")
    auc = evaluation.evaluation.scores["auc_mean_of_folds"]
    print(f"The network reached AUC {auc.value:.3f}, 95 % interval {auc.low:.3f} to {auc.high:.3f}.")
    print(f"Figures: {evaluation.folder.roc_figure}, {evaluation.folder.confusion_figure}")
    return 0
