"""What is known of held-out subjects besides the answer: sex, site, scanner."""

import numpy as np
import pandas as pd

from adnext_plugin.evaluation.subjects.values import OfSubjects

FEWEST = 10  # subjects per class of a part of the cohort, below which nothing is said of it


def column_of(predictions: OfSubjects, subjects: pd.DataFrame, column: str) -> np.ndarray | None:
    """What is known of held-out subjects, as text (N,), empty for unknown; None where it does not tell them apart.

    Args:
        predictions: of N held-out subjects.
        subjects: content of `subjects.csv`; what differs between a subject's scans is taken from the first.
        column: of that table.
    """
    return known(people_of(predictions, subjects), column)


def people_of(predictions: OfSubjects, subjects: pd.DataFrame) -> pd.DataFrame:
    """Rows of held-out subjects, in their order; what differs between a subject's scans is taken from the first."""
    people = subjects.sort_values("case_id").drop_duplicates("subject_id").set_index("subject_id")
    return people.loc[predictions.subject_ids]


def known(people: pd.DataFrame, column: str) -> np.ndarray | None:
    """A column as text (N,), empty for unknown; None where it is absent or does not tell the people apart."""
    if column not in people:
        return None
    texts = people[column].where(people[column].notna(), "").astype(str).to_numpy()
    return texts if len(set(texts) - {""}) > 1 else None
