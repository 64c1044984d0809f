"""What an evaluation adds to scores, so that they can be believed: seeds, inflation meter, probes of features."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adnext_plugin.errors import TableError, nearest_names
from adnext_plugin.run_folder import RunFolder

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.scores.score import Score
    from adnext_plugin.evaluation.studies.inflation import InflationMeter
    from adnext_plugin.evaluation.studies.probe import Probe
    from adnext_plugin.evaluation.studies.seeds import SeedSpread
    from adnext_plugin.evaluation.subjects.fold_files import FoldFiles
    from adnext_plugin.evaluation.subjects.values import OfSubjects


def seeds_of(
    run: RunFolder, cohort: "Cohort", files: "FoldFiles", scores: "Sequence[Score]"
) -> "tuple[SeedSpread | None, list[str]]":
    """The run, whose `files` these are, beside those under further seeds; and remarks on seeds that are left out.

    There is no spread where there are no further seeds.
    """
    from adnext_plugin.evaluation.studies.crossval import of_subjects
    from adnext_plugin.evaluation.studies.seeds import read_further_seeds, spread_over_seeds

    further, remarks = read_further_seeds(run, cohort)
    if not further:
        return None, remarks
    tables = {files.summaries[0].seed: files, **further}
    runs = {seed: of_subjects(one.predictions, cohort.task) for seed, one in tables.items()}
    return spread_over_seeds(runs, scores), remarks


def inflation_of(run: RunFolder, predictions: "OfSubjects", cohort: "Cohort") -> "InflationMeter | None":
    """What the paper's protocol would have printed of the run; None where it was trained without the meter."""
    from adnext_plugin.evaluation.studies.inflation import measure_inflation
    from adnext_plugin.evaluation.subjects.fold_files import read_metered_epochs, with_repeats

    metered = read_metered_epochs(run, len(cohort.splits), cohort.task)
    if metered is None:
        return None
    tables = [{epoch: with_repeats(table, cohort) for epoch, table in epochs.items()} for epochs in metered]
    return measure_inflation(predictions, tables, cohort.task)


def require_columns(names: Sequence[str], subjects: "pd.DataFrame") -> None:
    """Make sure that there is something to probe for, before anything is computed.

    Raises:
        TableError: there is no such column; names the nearest.
    """
    for name in names:
        if name not in subjects:
            raise TableError(f"--probe: subjects.csv has no column {name!r}{nearest_names(name, map(str, subjects))}")


def probes_of(
    run: RunFolder, cohort: "Cohort", columns: Sequence[str], resamples: int, device: str
) -> "tuple[Probe, ...]":
    """What the features of held-out scans tell of columns of `subjects.csv`.

    Args:
        run: evaluated.
        cohort: that it was trained on.
        columns: to guess.
        resamples: of the bootstrap.
        device: cpu, cuda or mps.
    """
    from adnext_plugin.evaluation.studies.probe import probe
    from adnext_plugin.prediction.held_out_features import held_out_features

    seen = held_out_features(run, cohort, device)
    rows = cohort.rows(seen.case_ids)
    return tuple(
        probe(seen.features, rows["subject_id"].tolist(), seen.folds, rows[name], resamples) for name in columns
    )
