"""What results are stamped with that are not those of an honest run."""

from collections.abc import Iterable

AUDIT_SKIPPED = "AUDIT SKIPPED"  # and the user's reason
OTHER_PEOPLE = "OTHER PEOPLE: equal ids in both datasets are said to be of different people"  # and the user's reason
PEOPLE_NOT_KNOWN = "PEOPLE NOT KNOWN: whether the first weights have seen held-out people could not be looked up"
OPTIMISTIC = "OPTIMISTIC: under the paper's protocol the epoch was chosen on the very subjects it is scored on"


def stamps_of(warnings: Iterable[str | None]) -> tuple[str, ...]:
    """What everything made of a run must be stamped with, each once.

    Args:
        warnings: of the folds' `summary.json`, or of the run's `metrics.json`; None where there is none.
    """
    return tuple(dict.fromkeys(warning for warning in warnings if warning))


def without_reasons(stamps: Iterable[str]) -> tuple[str, ...]:
    """The stamps to give away: what the user wrote of people stays at home."""
    return tuple(_without_reason(stamp) for stamp in stamps)


def _without_reason(stamp: str) -> str:
    for beginning in (AUDIT_SKIPPED, OTHER_PEOPLE):
        if beginning in stamp:
            return stamp[: stamp.index(beginning)] + beginning
    return stamp
