"""What another training seed changes: whole cross-validations on the same folds, each under a seed of its own.

Their spread is not the interval over subjects. That says what other people would change, this what another draw of
weights, order and augmentation would.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from adnext_plugin.cohort import Cohort
from adnext_plugin.errors import PathsError
from adnext_plugin.evaluation.scores.panel import all_scores
from adnext_plugin.evaluation.scores.score import Score
from adnext_plugin.evaluation.scores.table import BUILT_IN
from adnext_plugin.evaluation.subjects.fold_files import FoldFiles, read_folds
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.subjects.values import OfSubjects
from adnext_plugin.evaluation.uncertainty.intervals import estimates, resamples_of
from adnext_plugin.findings import SeedSpread, Spread
from adnext_plugin.run_folder import RunFolder, seed_runs
from adnext_plugin.run_records import read_run_info
from adnext_plugin.settings import REASONS

# of which runs under several seeds may differ
MAY_DIFFER = {"seed", "inflation_meter", *REASONS}


def spread_over_seeds(runs: Mapping[int, OfSubjects], scores: Sequence[Score] = BUILT_IN) -> SeedSpread:
    """Scores of held-out subjects by seed, and how far they lie apart.

    Args:
        runs: predictions of the same subjects by seed, at least two.
        scores: to choose from.
    """
    found = [all_scores(run, np.ones((1, len(run.targets))), scores) for run in runs.values()]
    together = _mean(list(runs.values()))
    return SeedSpread(
        seeds=tuple(runs),
        scores={name: _spread([float(one[name][0]) for one in found]) for name in found[0]},
        together=estimates(together, resamples_of(together), scores),
    )


def _mean(runs: list[OfSubjects]) -> OfSubjects:
    """The same subjects with the means of all predictions, and of the thresholds that belong to them."""
    averaged = ("probabilities", "thresholds") if isinstance(runs[0], SubjectPredictions) else ("values", "corrected")
    return replace(runs[0], **{name: np.mean([getattr(run, name) for run in runs], axis=0) for name in averaged})


def read_further_seeds(run: RunFolder, cohort: Cohort) -> tuple[dict[int, FoldFiles], list[str]]:
    """Read what `adnext_train cv --seeds` left of a run under further seeds.

    Args:
        run: the run's own folder, DATASET/TRAINER__PLANS__CONFIGURATION in a folder of results.
        cohort: the dataset trained on.

    Returns:
        Files by seed, and remarks on the seeds that are left out.

    Raises:
        AdnextError: they are of other data, or predictions of other folds or targets than the dataset's.
    """
    found, remarks = {}, []
    for seed, other in seed_runs(run).items():
        try:
            files = read_folds(other, cohort, "adnext_train ... cv --seeds N --c")
            changed = _changed_settings(run, other)
        except PathsError:
            remarks.append(f"seed {seed} is left out: its folds are not all trained; go on with --seeds N --c")
            continue
        if changed:
            remarks.append(f"seed {seed} is left out: it was trained with another {', '.join(changed)}")
        else:
            found[seed] = files
    return dict(sorted(found.items())), remarks


def _changed_settings(run: RunFolder, other: RunFolder) -> list[str]:
    ours, theirs = (read_run_info(one.fold(0).run_file).settings for one in (run, other))
    return sorted(name for name in ours.keys() - MAY_DIFFER if ours[name] != theirs.get(name))


def _spread(values: list[float]) -> Spread:
    known = np.isfinite(values).all()
    return Spread(
        by_seed=tuple(value if np.isfinite(value) else None for value in values),
        mean=float(np.mean(values)) if known else None,
        standard_deviation=float(np.std(values, ddof=1)) if known else None,
        lowest=min(values) if known else None,
        highest=max(values) if known else None,
    )
