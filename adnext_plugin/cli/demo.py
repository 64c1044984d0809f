"""`adnext_demo`: the whole pipeline, through the other commands, on a phantom cohort whose truth is known."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.environment import environment_with, usable_cpus
from adnext_plugin.errors import AdnextError, PathsError, SettingsError
from adnext_plugin.files import read_json, write_json
from adnext_plugin.paths import CONFIGURATION, PLANS_NAME
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.run_metrics import read_metrics

NUMBER, NAME, TRAINER = "999", "Demo", "ADNeXtTrainer_T"
# Small inputs and a rate at which the smallest network learns within minutes
PRESET = {
    "preprocessing": {"spacing_mm": [3.0, 3.0, 3.0], "input_size_voxels": [48, 64, 48], "fit": "resize"},
    "network": {"options": {"init": "fan_in", "drop_path_rate": 0.0}},
    "training": {"learning_rate": 3e-4, "warmup_epochs": 2, "augmentation": "anatomical"},
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line."""

    output: Path
    subjects: int
    effect: float
    seed: int
    epochs: int


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_demo", "Run everything on phantom brains made from the MNI152 template; no download.")
    parser.add_argument("--output", type=Path, default=Path("adnext_demo"), help="folder (default: %(default)s)")
    parser.add_argument(
        "--subjects", type=int, default=120, help="people, half of them patients (default: %(default)s)"
    )
    parser.add_argument("--effect", type=float, default=1.0, help="size of the disease; 0: none (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the cohort and the training (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="default: %(default)s")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    request = _request(build_parser().parse_args(argv))
    _claim(request)

    from adnext_plugin.demo.cohort import describe_effect, draw_subjects, write_cohort

    subjects = draw_subjects(request.subjects, request.effect, request.seed)
    truths = write_cohort(subjects, request.output, processes=usable_cpus())
    folders = {name: str(request.output / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    with environment_with(**folders):
        _run_commands(request)
    print(f"\nThe truth about this cohort (effect {request.effect:g}):")
    for line in describe_effect(truths):
        print(f"  {line}")
    results = Path(folders["nnUNet_results"])
    found = RunFolder.of(f"Dataset{NUMBER}_{NAME}", TRAINER, PLANS_NAME, CONFIGURATION, results).evaluation
    auc = read_metrics(found.metrics_file).scores["auc_mean_of_folds"]
    print(f"The network reached AUC {auc.value:.3f}, 95 % interval {auc.low:.3f} to {auc.high:.3f}.")
    print(f"Figures: {found.roc_figure}, {found.confusion_figure}")
    return 0


def _request(arguments: Namespace) -> Request:
    if arguments.subjects < 16:
        raise SettingsError(f"--subjects must be at least 16 for four folds, got {arguments.subjects}")
    if arguments.effect < 0:
        raise SettingsError(f"--effect must not be negative, got {arguments.effect}")
    if arguments.epochs < 3:
        raise SettingsError(f"--epochs must be at least 3, got {arguments.epochs}")
    return Request(**{**vars(arguments), "output": arguments.output.absolute()})


def _claim(request: Request) -> None:
    """Remember what the folder is for, so that a demo with other settings cannot be mixed into it."""
    path = request.output / "demo.json"
    settings = {key: value for key, value in asdict(request).items() if key != "output"}
    if path.is_file():
        if read_json(path) != settings:
            raise PathsError(f"{request.output} holds a demo with other settings; give another --output, or delete it")
    else:
        write_json(settings, path)


def _run_commands(request: Request) -> None:
    from adnext_plugin.cli import import_dataset, plan_and_preprocess, train

    preset = request.output / "preset.json"
    write_json(PRESET, preset)
    label_map = ["--label-map", "control=control", "patient=patient"]
    settings = ["--set", f"epochs={request.epochs}", "--seed", str(request.seed)]
    for module, arguments in (
        (
            import_dataset,
            [NUMBER, NAME, "--bids", str(request.output / "bids"), "--target", "group", *label_map, "--overwrite"],
        ),
        (plan_and_preprocess, ["-d", NUMBER, "--preset", str(preset)]),
        (train, [NUMBER, "3d_fullres", "cv", "-tr", TRAINER, "-device", "cpu", "--c", *settings]),
    ):
        name = module.__name__.rpartition(".")[2]
        print(f"\n$ adnext_{name.removesuffix('_dataset')} {' '.join(arguments)}", flush=True)
        if module.main(arguments):
            raise AdnextError(f"the demo stopped in adnext_{name}; see the message above")
