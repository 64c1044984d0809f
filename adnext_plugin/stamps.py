"""What results are stamped with that are not those of an honest run."""

from collections.abc import Iterable

# earlier versions wrote the user's reason behind these two, which may name people
AUDIT_SKIPPED = "AUDIT SKIPPED"
OTHER_PEOPLE = "OTHER PEOPLE: equal ids in both datasets are said to be of different people"
PEOPLE_NOT_KNOWN = "PEOPLE NOT KNOWN: whether the first weights have seen held-out people could not be looked up"
FAST = "FAST: trained in miniature, on a few scans, to see that everything goes through; its numbers are no results"
OPTIMISTIC = "OPTIMISTIC: under the paper's protocol the epoch was chosen on the very subjects it is scored on"


def stamps_of(warnings: Iterable[str | None]) -> tuple[str, ...]:
    """What everything made of a run must be stamped with, each once.

    Args:
        warnings: of the folds' `summary.json`, or of the run's `metrics.json`; None where there is none.
    """
    return without_reasons(warning for warning in warnings if warning)


def without_reasons(stamps: Iterable[str]) -> tuple[str, ...]:
    """The stamps to give away, each once: what the user wrote of people stays at home."""
    return tuple(dict.fromkeys(_without_reason(stamp) for stamp in stamps))


def _without_reason(stamp: str) -> str:
    """A stamp, or several with "; " between them, as one text; other stamps behind a reason are kept."""
    found = sorted(
        (stamp.index(beginning), beginning) for beginning in (AUDIT_SKIPPED, OTHER_PEOPLE) if beginning in stamp
    )
    if not found:
        return stamp
    start = found[0][0]
    behind = [one for one in (PEOPLE_NOT_KNOWN, OPTIMISTIC) if one in stamp[start:]]
    return stamp[:start] + "; ".join([*(beginning for _, beginning in found), *behind])
