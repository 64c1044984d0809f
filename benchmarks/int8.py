"""What a model loses whose weights are rounded to 8 bits: its AUC on held-out scans, beside that of the model itself.

    python benchmarks/int8.py --work FOLDER [--dataset 999 --trainer ADNeXtTrainer_T]

FOLDER is one of a finished cross-validation, such as `adnext_demo` leaves: with nnU-Net's three folders in it. Each
fold's network is written as ONNX with weights of 32 and of 8 bits, and both predict the scans that the fold holds out.
The result, benchmarks/results/int8.json, has both AUCs of each fold, their difference, and how far probabilities are
apart.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
from pipeline import run_command, run_of
from sklearn.metrics import roc_auc_score

from adnext_plugin.files import read_json
from adnext_plugin.paths import SPLITS_FILE
from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "int8.json"
WEIGHTS = ("float32", "int8")
FOLDS = 4


def main() -> None:
    """Write, predict, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder with nnU-Net's three folders")
    parser.add_argument("--dataset", default="999")
    parser.add_argument("--trainer", default="ADNeXtTrainer_T")
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[name] = str(work / name)
    (prepared,) = (work / "nnUNet_preprocessed").glob(f"Dataset{int(arguments.dataset):03d}_*")
    run = work / "nnUNet_results" / prepared.name / run_of(arguments.trainer)
    folds = [_fold(fold, run, prepared, arguments.dataset, work / "int8") for fold in range(FOLDS)]
    means = {kind: float(np.mean([fold["auc"][kind] for fold in folds])) for kind in WEIGHTS}
    found = {
        "made_by": provenance(),
        "dataset": prepared.name,
        "trainer": arguments.trainer,
        "auc_mean_of_folds": {**means, "difference": means["int8"] - means["float32"]},
        "largest_difference_of_a_probability": max(fold["largest_difference_of_a_probability"] for fold in folds),
        "folds": folds,
    }
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def _fold(fold: int, run: Path, prepared: Path, dataset: str, work: Path) -> dict:
    held_out = read_json(prepared / SPLITS_FILE)[fold]["val"]
    probabilities, mebibytes = {}, {}
    for kind in WEIGHTS:
        program, output = work / f"fold_{fold}_{kind}.onnx", work / f"fold_{fold}_{kind}"
        work.mkdir(exist_ok=True)
        run_command(
            *("adnext_export", str(run), "-o", str(program), "-f", str(fold), "--weights", kind),
            *("--overwrite", "--without-ranges"),
        )
        run_command("adnext_predict", "-i", dataset, "-m", str(program), "-o", str(output))
        rows = pd.read_csv(output / "predictions.csv").set_index("case_id").loc[held_out]
        probabilities[kind] = rows.filter(like="prob").iloc[:, -1]
        mebibytes[kind] = round(program.stat().st_size / 2**20, 2)
    rows = pd.read_csv(run / f"fold_{fold}" / "validation" / "predictions.csv").set_index("case_id").loc[held_out]
    auc = {kind: float(roc_auc_score(rows["target"], values)) for kind, values in probabilities.items()}
    apart = (probabilities["int8"] - probabilities["float32"]).abs()
    return {
        "scans": len(held_out),
        "auc": auc,
        "largest_difference_of_a_probability": float(apart.max()),
        "mean_difference_of_probabilities": float(apart.mean()),
        "mebibytes": mebibytes,
    }


if __name__ == "__main__":
    main()
