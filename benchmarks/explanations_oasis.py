"""What networks look at that tell the age of OASIS-1 people, and whether to believe it; repeated sessions included.

    python benchmarks/explanations_oasis.py --work DIR [--atlas FILE --labels CSV]

Everybody without dementia, all sessions, at 4.5 mm; two of the four folds under two seeds, three epochs each if nothing
else is said: a short training, for a machine without a GPU. The folds' held-out people are explained by two methods.
The scans lie in MNI152 already. The result is benchmarks/results/explanations_oasis.json. ADNEXT_TEST_DATA names the
folder of the scans.
"""

import argparse
import json
import os
from pathlib import Path

import pandas as pd
from oasis_ad import DEFAULT_DATA, WITHOUT_DEMENTIA, oasis_table
from pipeline import dataset_folder, run_command, run_of, set_options, use_folders

from adnext_plugin.paths import SEED_FOLDER

RESULT = Path(__file__).parent / "results" / "explanations_oasis.json"
NUMBER, NAME, TRAINER = 206, "OasisYearsRepeated", "ADNeXtTrainer_T_Small"
PRESET = {
    "preprocessing": {"spacing_mm": [4.5, 4.5, 4.5], "input_size_voxels": [32, 40, 32], "brain_extraction": "none"}
}
FOLDS, SEEDS = (0, 1), (42, 43)
METHODS = {
    "integrated_gradients": ("steps=8", "most_steps=8", "tolerance=0.5"),
    "smooth_grad": ("samples=4",),
}
KEPT = (
    *("settings", "target", "cases", "people", "regions", "checked", "checks", "agreement", "failures"),
    "findings",
)
SHOWN_REGIONS = 12
TELLING = "(?i)hippocampus|amygdala|ventricle|temporal.pole"


def main() -> None:
    """Train, explain, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for nnU-Net's three folders")
    parser.add_argument("--atlas", type=Path, help="as of adnext_explain")
    parser.add_argument("--labels", type=Path, help="as of adnext_explain")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--epochs", type=int, default=3, help="of each fold; the first is the warm-up (default: 3)")
    parser.add_argument("--checks", type=int, default=16, help="people whose maps are checked (default: %(default)s)")
    arguments = parser.parse_args()
    work, device = arguments.work.absolute(), ("-device", arguments.device)
    use_folders(work)
    _prepare(work)
    results = work / "nnUNet_results"
    for seed in SEEDS:
        os.environ["nnUNet_results"] = str(results if seed == SEEDS[0] else results / f"{SEED_FOLDER}{seed}")
        for fold in FOLDS:
            options = [*device, *set_options((f"epochs={arguments.epochs}", "warmup_epochs=1", f"seed={seed}"))]
            run_command("adnext_train", str(NUMBER), "3d_fullres", str(fold), "-tr", TRAINER, "--continue", *options)
    os.environ["nnUNet_results"] = str(results)
    run = results / dataset_folder(NUMBER, NAME) / run_of(TRAINER)
    regions = [] if arguments.atlas is None else ["--atlas", str(arguments.atlas), "--labels", str(arguments.labels)]
    info = json.loads((run / "fold_0" / "run.json").read_text())
    found = {
        "made_by": {key: value for key, value in info.items() if key != "settings"},
        "mean_absolute_error_years": _error(run),
        "methods": {method: _method(run, method, arguments.checks, [*regions, *device]) for method in METHODS},
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")


def _prepare(work: Path) -> None:
    data = Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA)) / "oasis1"
    if not (work / "nnUNet_raw" / dataset_folder(NUMBER, NAME)).is_dir():
        run_command(
            *("adnext_import", str(NUMBER), NAME, "--table", str(oasis_table(data, work)), "--images", str(data)),
            *("--image-pattern", "images/{ID}.nii.gz", "--subject-column", "subject_id", "--session-column", "session"),
            *("--age-column", "Age", "--sex-column", "M/F", "--regress", "Age", *WITHOUT_DEMENTIA),
        )
    preset = work / "preset.json"
    preset.write_text(json.dumps(PRESET))
    run_command("adnext_plan_and_preprocess", "-d", str(NUMBER), "--preset", str(preset))


def _error(run: Path) -> float:
    """Of the held-out people of the folds that were trained, a person once."""
    tables = [pd.read_csv(run / f"fold_{fold}" / "validation" / "predictions.csv") for fold in FOLDS]
    rows = pd.concat(tables)
    rows = rows[rows["part"] == "val"].groupby("subject_id")[["target", "prediction"]].mean()
    return float((rows["target"] - rows["prediction"]).abs().mean())


def _method(run: Path, method: str, checks: int, options: list[str]) -> dict:
    folder = run / "explanations" / method
    if not (folder / "findings.json").is_file():
        words = [*set_options(METHODS[method]), *options, "--mni", "scans", "--checks", str(checks)]
        run_command("adnext_explain", str(NUMBER), "-tr", TRAINER, "-m", method, *words)
    summary = json.loads((folder / "findings.json").read_text())
    table = pd.read_csv(folder / "regions.csv")
    most = table.sort_values("times_chance", ascending=False).head(SHOWN_REGIONS)
    telling = table[table["region"].str.contains(TELLING, case=False)]
    rows = pd.concat([most, telling]).drop_duplicates(["region", "side"]).drop(columns="group")
    return {**{key: summary[key] for key in KEPT}, "of_regions": json.loads(rows.round(5).to_json(orient="records"))}


if __name__ == "__main__":
    main()
