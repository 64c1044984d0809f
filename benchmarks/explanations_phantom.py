"""Do maps find what the disease changes, and nothing where there is no disease? On `adnext_demo`, whose truth is known.

    python benchmarks/explanations_phantom.py --work DIR

Both demos, of the default effect and of none, are run with their defaults; those that are finished in the folder of
work are taken as they are, and so are maps. The result is benchmarks/results/explanations_phantom.json.
"""

import argparse
import json
import os
from pathlib import Path

from pipeline import run_command, run_of

RESULT = Path(__file__).parent / "results" / "explanations_phantom.json"
EFFECTS = {"1": "effect_1", "0": "effect_0"}
DATASET, TRAINER = "Dataset999_Demo", "ADNeXtTrainer_T"
CHECKS = 24
METHODS = {
    "grad_cam, last layer": ("grad_cam",),
    "grad_cam, second stage": ("grad_cam", "layer=encoder.stages.1"),
    "grad_cam_pp, second stage": ("grad_cam_pp", "layer=encoder.stages.1"),
    "integrated_gradients": ("integrated_gradients", "steps=8", "most_steps=16"),
    "smooth_grad": ("smooth_grad", "samples=8"),
}
KEPT = ("settings", "target", "cases", "people", "checked", "checks", "agreement", "localisation", "failures")


def main() -> None:
    """Run both demos and all methods, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for both demos")
    arguments = parser.parse_args()
    found = {f"effect {effect}": _effect(effect, arguments.work.absolute() / name) for effect, name in EFFECTS.items()}
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


def _effect(effect: str, folder: Path) -> dict:
    run = folder / "nnUNet_results" / DATASET / run_of(TRAINER)
    metrics = run / "crossval_results" / "metrics.json"
    if not metrics.is_file():
        run_command("adnext_demo", "--output", str(folder), "--effect", effect)
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(folder / name)
    return {
        "auc_mean_of_folds": json.loads(metrics.read_text())["scores"]["auc_mean_of_folds"],
        "made_by": json.loads((run / "fold_0" / "run.json").read_text())["provenance"],
        "methods": {name: _method(folder, name, *words) for name, words in METHODS.items()},
    }


def _method(folder: Path, name: str, method: str, *settings: str) -> dict:
    output = folder / "maps" / name.replace(", ", "_").replace(" ", "_")
    if not (output / "summary.json").is_file():
        words = [word for setting in settings for word in ("--set", setting)]
        truth = ["--truth", str(folder / "true_regions.nii.gz"), "--checks", str(CHECKS), "--mni", "scans"]
        run_command("adnext_explain", "999", "-tr", TRAINER, "-m", method, *words, *truth, "-o", str(output))
    summary = json.loads((output / "summary.json").read_text())
    return {key: summary[key] for key in KEPT}


if __name__ == "__main__":
    main()
