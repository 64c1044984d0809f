"""Do maps find what the disease changes, and nothing where there is no disease? On `adnext_demo`, whose truth is known.

    python benchmarks/explanations_phantom.py --work DIR

Demos that are finished in the folder of work are taken as they are, and so are maps. All maps are checked, which takes
seven maps a person. The result is benchmarks/results/explanations_phantom.json.
"""

import argparse
import json
import os
from pathlib import Path

from pipeline import run_command, run_of

from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "explanations_phantom.json"
EFFECTS = {"1": "effect_1", "0": "effect_0"}
DATASET, TRAINER = "Dataset999_Demo", "ADNeXtTrainer_T"
METHODS = {
    "integrated_gradients": ("integrated_gradients", "steps=8", "most_steps=8", "tolerance=0.5"),
    "smooth_grad": ("smooth_grad", "samples=4"),
    "grad_cam, first stage": ("grad_cam", "layer=encoder.stages.0"),
    "grad_cam, second stage": ("grad_cam", "layer=encoder.stages.1"),
}
KEPT = ("settings", "target", "cases", "people", "checked", "checks", "agreement", "localisation", "failures")


def main() -> None:
    """Run both demos and all methods, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for both demos")
    parser.add_argument("--subjects", type=int, nargs=2, default=(120, 120), help="of the demos of effect 1 and 0")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--people", type=int, default=16, help="whose first scans are explained (default: %(default)s)")
    arguments = parser.parse_args()
    found = {
        f"effect {effect}": _effect(effect, subjects, arguments, arguments.work.absolute() / name)
        for (effect, name), subjects in zip(EFFECTS.items(), arguments.subjects, strict=True)
    }
    RESULT.write_text(json.dumps({"made_by": provenance(), **found}, indent=1) + "\n")


def _effect(effect: str, subjects: int, arguments: argparse.Namespace, folder: Path) -> dict:
    people, device = arguments.people, ("-device", arguments.device)
    run = folder / "nnUNet_results" / DATASET / run_of(TRAINER)
    metrics = run / "crossval_results" / "metrics.json"
    if not metrics.is_file():
        run_command("adnext_demo", "--output", str(folder), "--effect", effect, "--subjects", str(subjects), *device)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(folder / name)
    # spread over the cohort, in which every other person is a patient: an odd step takes both
    cases = [f"sub-{index:03d}_ses-01" for index in range(0, subjects, subjects // people | 1)][:people]
    info = json.loads((run / "fold_0" / "run.json").read_text())
    return {
        "subjects": subjects,
        "auc_mean_of_folds": json.loads(metrics.read_text())["scores"]["auc_mean_of_folds"],
        "made_by": {key: value for key, value in info.items() if key != "settings"},
        "methods": {name: _method(folder, cases, device, name, *words) for name, words in METHODS.items()},
    }


def _method(folder: Path, cases: list[str], device: tuple[str, str], name: str, method: str, *settings: str) -> dict:
    output = folder / "maps" / name.replace(", ", "_").replace(" ", "_")
    if not (output / "findings.json").is_file():
        words = [word for setting in settings for word in ("--set", setting)]
        truth = ["--truth", str(folder / "true_regions.nii.gz"), "--checks", str(len(cases)), "--cases", *cases]
        run_command("adnext_explain", "999", "-tr", TRAINER, "-m", method, *words, *truth, *device, "-o", str(output))
    summary = json.loads((output / "findings.json").read_text())
    return {key: summary[key] for key in KEPT}


if __name__ == "__main__":
    main()
