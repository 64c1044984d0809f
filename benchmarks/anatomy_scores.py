"""What the networks of `anatomy_networks.py` say of people held out, alone and together with regions.

    python benchmarks/anatomy_scores.py --work DIR --predictions DIR/predictions

DIR is the folder in which `oasis_leaderboard.py` prepared the task and trained `ADNeXtRegionsTrainer`; the folds are
the same. A network that has several seeds is scored seed by seed, and as the mean of what they say. Which network
stands for all is decided on `selection` alone: the best AUC there, mean of folds, of the mean prediction of its seeds.
So is the weight of a network beside regions, of five, and which of the regions, the best network, the best network that
is told regions, the mean of all bottlenecks, and each of the networks beside regions is the model that the study ends
with; among equals the first. Writes benchmarks/results/anatomy_networks.json, with every arm.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from anatomy_arms import ARMS, ENCODERS
from anatomy_networks import FIRST_SEED, FOLDS, TASK, Unit
from oasis_leaderboard import ROWS, runs_of, scored, simple_models, slug
from pipeline import dataset_folder
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions, per_subject
from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "anatomy_networks.json"
REGIONS = ROWS["regions (hippocampal fluid)+age+sex"]
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a network beside regions
POSITIVE, OTHER = "prob_AD", "prob_CN"


def main() -> None:
    """Score whatever there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True)
    arguments = parser.parse_args()
    dataset = dataset_folder(*TASK)
    cohort = Cohort.open(arguments.work / "nnUNet_preprocessed" / dataset)
    (run,) = runs_of(arguments.work / f"nnUNet_results_{slug(REGIONS)}" / dataset, REGIONS)
    regions = _together([pd.read_csv(run / f"fold_{fold}" / "validation" / "predictions.csv") for fold in FOLDS])
    board = Board(cohort, regions)
    seeds = {name: found for name in ARMS if (found := _tables(name, arguments.predictions))}
    means = {name: _mean(tables) for name, tables in seeds.items()}
    arms = {name: board.arm(tables) for name, tables in seeds.items()}
    of_images = [name for name in means if not ARMS[name].has_regions]
    bottlenecks = [name for name in of_images if "bottleneck" in ARMS[name].settings]
    chosen = {
        "network": _best(of_images, arms),
        "network_told_regions": _best([name for name in means if ARMS[name].has_regions], arms),
    }
    tables = {name: means[arm] for name, arm in chosen.items()}
    tables |= {
        "bottlenecks": _mean([table for name in bottlenecks for table in seeds[name]]),
        "all_networks_of_images": _mean([means[name] for name in of_images]),
    }
    candidates = {"regions": board.candidate(regions)}
    candidates |= {name: {"arm": chosen.get(name)} | board.candidate(table) for name, table in tables.items()}
    candidates |= {f"{name}_with_regions": board.beside_regions(table) for name, table in tables.items()}
    report = {
        "made_by": provenance(),
        "people": len(cohort.subjects),
        "encoders": {name: asdict(one) for name, one in ENCODERS.items()},
        "not_trained": [name for name in ARMS if name not in arms],
        "arms": arms,
        "candidates": candidates,
        "model": max(candidates, key=lambda name: candidates[name]["auc_on_selection"]),
    }
    RESULT.write_text(json.dumps(report, indent=1) + "\n")
    for name, arm in sorted(arms.items(), key=lambda item: -item[1]["auc_on_selection"]):
        of_seeds = ", ".join(f"{one['auc']['value']:.3f}" for one in arm["seeds"])
        print(f"{name:40s} selection {arm['auc_on_selection']:.3f}  {of_seeds}  mean {_in_words(arm['mean_of_seeds'])}")
    for name, candidate in candidates.items():
        print(f"{name:40s} selection {candidate['auc_on_selection']:.3f}  {_in_words(candidate)}")
    print("model:", report["model"])


class Board:
    """Scores tables of predictions against age, sex and nWBV, and against regions."""

    def __init__(self, cohort: Cohort, regions: pd.DataFrame) -> None:
        self._cohort, self._regions = cohort, regions
        self._reference = simple_models(cohort, "ad")["age+sex+nWBV"]

    def arm(self, tables: list[pd.DataFrame]) -> dict:
        """Each seed, and all together."""
        mean = _mean(tables)
        return {
            "seeds": [self.row(table) for table in tables],
            "mean_of_seeds": self.row(mean),
            "auc_on_selection": _auc_on_selection(mean),
        }

    def row(self, table: pd.DataFrame) -> dict:
        """The AUC, and paired differences from age, sex and nWBV and from regions."""
        people = self._people(table)
        against = scored(people, self._people(self._regions))["less_age_sex_nWBV"]
        return scored(people, self._reference) | {"less_regions": against}

    def candidate(self, table: pd.DataFrame) -> dict:
        """What a model reaches, and what speaks for it."""
        return self.row(table) | {"auc_on_selection": _auc_on_selection(table)}

    def beside_regions(self, table: pd.DataFrame) -> dict:
        """A network and the linear model of regions, at the weight that is best on `selection`."""
        both = {weight: _weighted(table, self._regions, weight) for weight in WEIGHTS}
        on_selection = {weight: _auc_on_selection(one) for weight, one in both.items()}
        best = max(WEIGHTS, key=lambda weight: on_selection[weight])
        return {
            "weight": best,
            "auc_on_selection_by_weight": {str(weight): auc for weight, auc in on_selection.items()},
            "at_half": self.row(both[0.5]),
            **self.candidate(both[best]),
        }

    def _people(self, table: pd.DataFrame) -> SubjectPredictions:
        return per_subject(table, self._cohort.task)


def _tables(arm: str, folder: Path) -> list[pd.DataFrame]:
    """A table of each seed that has all folds."""
    tables = []
    for seed in range(FIRST_SEED, FIRST_SEED + 10):
        files = [folder / Unit(name=arm, seed=seed, fold=fold, is_encoder=False).table for fold in FOLDS]
        if all(file.is_file() for file in files):
            tables.append(_together([pd.read_csv(file) for file in files]))
    return tables


def _together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables).sort_values(["fold", "part", "case_id"], ignore_index=True)


def _mean(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The mean of what networks say; their rows are the same."""
    assert all((table["case_id"] == tables[0]["case_id"]).all() for table in tables)
    share = np.mean([table[POSITIVE].to_numpy() for table in tables], axis=0)
    return tables[0].assign(**{POSITIVE: share, OTHER: 1 - share})


def _weighted(table: pd.DataFrame, other: pd.DataFrame, weight: float) -> pd.DataFrame:
    """Logits of both, each in units of its deviation on the fold's `selection`, at a weight."""
    assert (table["case_id"] == other["case_id"]).all() and (table["fold"] == other["fold"]).all()
    total = np.zeros(len(table))
    for one, share in ((table, weight), (other, 1 - weight)):
        logits = logit(one[POSITIVE].clip(1e-6, 1 - 1e-6))
        deviations = logits[one["part"] == "selection"].groupby(one["fold"]).std()
        total += share * (logits / one["fold"].map(deviations)).to_numpy()
    return table.assign(**{POSITIVE: expit(total), OTHER: expit(-total)})


def _auc_on_selection(table: pd.DataFrame) -> float:
    selection = table[table["part"] == "selection"]
    return float(np.mean([roc_auc_score(one["target"] == "AD", one[POSITIVE]) for _, one in selection.groupby("fold")]))


def _best(names: list[str], arms: dict[str, dict]) -> str:
    return max(names, key=lambda name: arms[name]["auc_on_selection"])


def _in_words(row: dict) -> str:
    (low, high), (least, most) = row["auc"]["interval"], row["less_age_sex_nWBV"]["interval"]
    gain = row["less_age_sex_nWBV"]["value"]
    return f"{row['auc']['value']:.3f} [{low:.3f}, {high:.3f}], gain {gain:.3f} [{least:.3f}, {most:.3f}]"


if __name__ == "__main__":
    main()
