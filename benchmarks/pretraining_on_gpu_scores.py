"""Scores of the study of objectives on a GPU, from what `pretraining_on_gpu.py` has left.

    python benchmarks/pretraining_on_gpu_scores.py --work DIR --results FOLDER

Adds to each classifier what it gains over training from scratch, paired over the same people, by the same network under
the same seed; writes benchmarks/results/pretraining_on_gpu.jsonl and prints tables.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from oasis_ad import RESULTS
from pipeline import use_folders
from pretraining_on_gpu import AND_NORMAL, ARMS, FOLDS, LOG, PREDICTIONS, TASKS, answers_in
from pretraining_study import SCRATCH, in_words

from adnext_plugin.evaluation.uncertainty.intervals import gain, resamples_of

LOG_OF_RUNS = RESULTS / LOG


def main() -> None:
    """Say of classifiers what they gain over training from scratch, and write all rows beside other results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--results", type=Path, required=True, help="what `pretraining_on_gpu.py run` was told")
    arguments = parser.parse_args()
    use_folders(arguments.work)
    results = arguments.results
    lines = [json.loads(line) for line in (results / LOG).read_text().splitlines()]
    for line in lines:
        if line["run"] == "finetune" and not line["arm"].startswith(SCRATCH):
            stem = ARMS["proxy" if line["arm"] == AND_NORMAL else line["arm"]].stem
            ours = results / PREDICTIONS / "{task}_{arm}_{how}_{seed}".format(**line)
            theirs = results / PREDICTIONS / "{task}_{0}{1}_scratch_{seed}".format(SCRATCH, stem, **line)
            if len(list(theirs.glob("fold_*.csv"))) == FOLDS:
                found, scratch = (answers_in(kept, TASKS[line["task"]][0]) for kept in (ours, theirs))
                line["gain_over_scratch"] = vars(gain(found, scratch, resamples_of(scratch)))
    LOG_OF_RUNS.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for table in (_of_pretraining(lines), _of_features(lines), _of_classifiers(lines)):
        print(table.to_string(na_rep=""), "\n")


def _of_pretraining(lines: Sequence[dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for line in lines:
        if line["run"] == "pretrain" and "settings" in line:
            kept = {"arm": line["arm"], "seed": line["seed"], "epochs": line["settings"]["epochs"]}
            kept["seconds"] = line["training_seconds"]
            figures = {name: found for name, found in line["held_out"].items() if isinstance(found, dict)}
            rows += [
                {**kept, "figure": name, "who": who, "value": round(value, 3)}
                for name, found in figures.items()
                for who, value in found.items()
            ]
    return pd.DataFrame(rows)


def _of_features(lines: Sequence[dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for line in lines:
        for column in line["columns"] if line["run"] == "probe" else ():
            kept = {"arm": line["arm"], "seed": line["seed"], "column": column["column"]}
            for model, score in column["models"].items():
                over = column["gains"].get(model)
                more = "" if over is None else in_words(over)
                rows.append({**kept, "model": model, "score": in_words(score), "gain of encoder": more})
        for who, found in line.get("reliability", {}).items():
            score = f"ICC {found['median_icc']:.2f}, {found['share_recognised']:.0%} recognised"
            rows.append({"arm": line["arm"], "seed": line["seed"], "column": "two scans", "model": who, "score": score})
    return pd.DataFrame(rows)


def _of_classifiers(lines: Sequence[dict[str, Any]]) -> pd.DataFrame:
    rows = []
    for line in lines:
        if line["run"] == "finetune" and line["score"]:
            kept = {name: line[name] for name in ("task", "arm", "how", "seed")}
            more = in_words(line["gain_over_scratch"]) if "gain_over_scratch" in line else ""
            rows.append({**kept, "score": in_words(line["score"]), "gain over scratch": more})
    return pd.DataFrame(rows).sort_values(["task", "how", "arm", "seed"])


if __name__ == "__main__":
    main()
