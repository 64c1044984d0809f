"""Time and memory of 2,000 resamples of every score, at 1,000 and 10,000 subjects; prints and writes JSON.

    python benchmarks/bootstrap.py

`classification` is all scores of two classes, `decision_curve` and `regression` what their modules give, each with the
drawing of its resamples. Peaks are those of the arrays that Python allocates, above what the data take.
"""

import argparse
import json
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from adnext_plugin.evaluation.scores.decision_curve import decision_curve
from adnext_plugin.evaluation.scores.panel import panel
from adnext_plugin.evaluation.scores.regression import regression_scores
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.uncertainty.bootstrap import Resamples, bootstrap
from adnext_plugin.evaluation.uncertainty.intervals import resamples_of
from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "bootstrap.json"


def main() -> None:
    """Measure all sizes and report."""
    arguments = _parse()
    rows = [
        {"subjects": subjects, "resamples": resamples, **_measure(subjects, resamples, arguments.repeats)}
        for subjects in arguments.subjects
        for resamples in (arguments.resamples, 2 * arguments.resamples)
    ]
    text = json.dumps({"made_by": provenance(), "repeats": arguments.repeats, "rows": rows}, indent=1)
    print(text)
    if not arguments.dry:
        RESULT.write_text(text + "\n")


def _measure(subjects: int, resamples: int, repeats: int) -> dict:
    generator = np.random.default_rng(0)
    targets = np.arange(subjects) % 2
    positive = 1 / (1 + np.exp(-generator.normal(targets - 0.5)))
    ages = generator.uniform(20, 90, subjects)
    predicted = ages + generator.normal(0, 5, subjects)
    predictions = SubjectPredictions(
        subject_ids=np.arange(subjects),
        targets=targets,
        folds=generator.integers(0, 4, subjects),
        probabilities=np.stack([1 - positive, positive], axis=1),
        thresholds=np.full(subjects, 0.5),
        classes=("CN", "AD"),
    )
    by_class = resamples_of(predictions, resamples)
    by_fold = Resamples(subject_ids=predictions.subject_ids, strata=predictions.folds, count=resamples)
    jobs: dict[str, Callable[[], object]] = {
        "classification": lambda: bootstrap(lambda block: panel(predictions, block), by_class),
        "decision_curve": lambda: decision_curve(targets == 1, positive, by_class),
        "regression": lambda: bootstrap(lambda block: regression_scores(ages, predicted, block), by_fold),
    }
    return {
        "median_seconds": {name: round(_median_seconds(job, repeats), 3) for name, job in jobs.items()},
        "peak_mebibytes": {name: round(_peak_mebibytes(job), 1) for name, job in jobs.items()},
    }


def _median_seconds(job: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _peak_mebibytes(job: Callable[[], object]) -> float:
    tracemalloc.start()
    job()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", type=int, default=[1000, 10000])
    parser.add_argument("--resamples", type=int, default=2000, help="measured, and twice as many")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dry", action="store_true", help="do not write the result file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
