"""How often intervals are wrong: made-up cohorts whose true scores are known; prints and writes JSON.

    python benchmarks/coverage.py                 # about an hour on one core
    python benchmarks/coverage.py --cohorts 100 --resamples 300 --dry

Of every design (patients of people, in four folds) many cohorts are drawn and scored, and their 95 % intervals held
against the truth. `excluded` is the percentage of cohorts whose interval leaves it out, 5 where it does what it says;
`without_interval` that of cohorts that get none, with the reason. `areas` are of chance (0.5) and of networks that know
something, `gains` of two networks that are equally good, which share half of what they see, and `p` the percentage of
p values below 0.05. The truth of all other scores is their mean over the cohorts of the design.
`percentiles_within_fold` is of plain percentiles of resamples within fold and class, as before this benchmark.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import norm

from adnext_plugin.evaluation.scores.areas import auc_mean_of_folds
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.subjects.values import SubjectValues
from adnext_plugin.evaluation.uncertainty.bootstrap import Estimate, Resamples, drawn_scores
from adnext_plugin.evaluation.uncertainty.delong import AreaInterval, AreaTest, area_interval, paired_test
from adnext_plugin.evaluation.uncertainty.intervals import panel_estimates, resamples_of
from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "coverage.json"
DESIGNS = ((4, 16), (4, 84), (8, 16), (8, 32), (8, 88), (12, 24), (12, 92), (20, 100), (48, 108))
AREAS = (0.5, 0.7, 0.85)
FOLDS = 4
SHARED = 0.5  # of the variance of two networks' scores


def main() -> None:
    """Simulate all designs and report."""
    arguments = _parse()
    rows = []
    for patients, people in DESIGNS:
        row = {"patients": patients, "people": people, "areas": {}, "gains": {}}
        for area in AREAS:
            row["areas"][area], row["gains"][area] = _areas(patients, people, area, arguments.cohorts)
        row["percentiles_within_fold"] = _plain_percentiles(patients, people, arguments)
        few = max(1, arguments.cohorts // 10)  # of what takes resamples of every score
        row["other_scores"] = _scores(_classified(patients, people, 0.7, few), arguments.resamples)
        row["three_classes"] = _scores(_of_three(patients, people, few), arguments.resamples, ("auc_mean_of_folds",))
        row["regression"] = _scores(_quantities(people, few), arguments.resamples)
        rows.append(row)
    report = {"made_by": provenance(), **{name: getattr(arguments, name) for name in ("cohorts", "resamples")}}
    text = json.dumps({**report, "designs": rows}, indent=1)
    print(text)
    if not arguments.dry:
        RESULT.write_text(text + "\n")


def _plain_percentiles(patients: int, people: int, arguments: argparse.Namespace) -> float:
    """Percentage of cohorts in which they leave chance out."""
    cohorts, wrong = max(1, arguments.cohorts // 10), 0
    for it in _classified(patients, people, 0.5, cohorts):
        within = it.folds * 2 + it.targets
        drawn = Resamples(subject_ids=it.subject_ids, strata=within, count=arguments.resamples)
        areas = drawn_scores(lambda block, it=it: {"area": auc_mean_of_folds(it, block)}, drawn)["area"]
        low, high = np.nanquantile(areas, (0.025, 0.975))
        wrong += not low <= 0.5 <= high
    return round(100 * wrong / cohorts, 1)


def _areas(patients: int, people: int, area: float, cohorts: int) -> tuple[dict, dict]:
    """Intervals of the area of one network, mean of folds and pooled, and of the difference of two."""
    of_folds, pooled, gains = [], [], []
    for one, other in _pairs(patients, people, area, cohorts):
        is_positive, scores = one.targets == 1, one.probabilities[:, 1]
        of_folds.append(area_interval(is_positive, scores, one.folds))
        pooled.append(area_interval(is_positive, scores))
        gains.append(paired_test(is_positive, scores, other.probabilities[:, 1], one.folds))
    known = [test.p for test in gains if test.p is not None]
    p = None if not known else round(100 * float(np.mean(np.array(known) < 0.05)), 1)
    areas = {"auc_mean_of_folds": _counted(of_folds, area), "auc_pooled": _counted(pooled, area)}
    return areas, {**_counted(gains, 0.0), "p": p}


def _scores(cohorts: Iterator, resamples: int, names: tuple[str, ...] = ()) -> dict[str, dict]:
    """Of every score, about its mean over cohorts."""
    found: dict[str, list[Estimate]] = defaultdict(list)
    for it in cohorts:
        for name, one in panel_estimates(it, resamples_of(it, resamples)).items():
            if not names or name in names:
                found[name].append(one)
    means = {
        name: np.mean([one.value for one in rows if one.value is not None] or [np.nan]) for name, rows in found.items()
    }
    return {name: _counted(rows, float(means[name])) for name, rows in found.items()}


def _counted(found: Sequence[Estimate | AreaInterval | AreaTest], truth: float) -> dict:
    with_interval = [one for one in found if one.low is not None]
    reasons = sorted({one.note for one in found if one.low is None})
    wrong = [not one.low - 1e-9 <= truth <= one.high + 1e-9 for one in with_interval]
    return {
        "excluded": round(100 * float(np.mean(wrong)), 1) if wrong else None,
        "without_interval": round(100 * (1 - len(with_interval) / len(found)), 1),
        **({"reasons": reasons} if reasons else {}),
    }


def _pairs(patients: int, people: int, area: float, cohorts: int) -> Iterator[tuple[SubjectPredictions, ...]]:
    generator = np.random.default_rng((patients, people, round(100 * area)))
    targets = (np.arange(people) < patients).astype(int)
    for _ in range(cohorts):
        shared = np.sqrt(SHARED) * generator.normal(size=people)
        yield tuple(_predicted(targets, _seen(targets, area, generator, shared)) for _ in range(2))


def _classified(patients: int, people: int, area: float, cohorts: int) -> Iterator[SubjectPredictions]:
    for one, _ in _pairs(patients, people, area, cohorts):
        yield one


def _seen(targets: np.ndarray, area: float, generator: np.random.Generator, shared: np.ndarray) -> np.ndarray:
    """Unit normals of both classes, as far apart as the area asks for."""
    noise = np.sqrt(1 - SHARED) * generator.normal(size=len(targets))
    return shared + noise + np.sqrt(2) * norm.ppf(area) * targets


def _predicted(targets: np.ndarray, logits: np.ndarray) -> SubjectPredictions:
    positive = 1 / (1 + np.exp(-logits))
    return SubjectPredictions(
        subject_ids=np.arange(len(targets)),
        targets=targets,
        folds=np.arange(len(targets)) % FOLDS,  # dealt class by class, as folds are
        probabilities=np.stack([1 - positive, positive], axis=1),
        thresholds=np.full(len(targets), 0.5),
        classes=("CN", "AD"),
    )


def _of_three(fewest: int, people: int, cohorts: int) -> Iterator[SubjectPredictions]:
    generator = np.random.default_rng((fewest, people, 3))
    targets = np.minimum(np.arange(people) // fewest, 2)
    for _ in range(cohorts):
        logits = generator.normal(size=(people, 3))
        yield SubjectPredictions(
            subject_ids=np.arange(people),
            targets=targets,
            folds=np.arange(people) % FOLDS,
            probabilities=np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True),
            thresholds=np.full(people, np.nan),
            classes=("CN", "MCI", "AD"),
        )


def _quantities(people: int, cohorts: int) -> Iterator[SubjectValues]:
    generator = np.random.default_rng((people, 4))
    for _ in range(cohorts):
        ages = generator.uniform(50, 90, people)
        said = 35 + 0.5 * ages + generator.normal(0, 6, people)
        folds = np.arange(people) % FOLDS
        yield SubjectValues(subject_ids=np.arange(people), targets=ages, folds=folds, values=said, corrected=said)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=4000, help="of a design; a tenth where every score is resampled")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--dry", action="store_true", help="do not write the result file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
