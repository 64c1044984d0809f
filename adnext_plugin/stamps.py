"""What results are stamped with that are not those of an honest run."""

from collections.abc import Iterable, Mapping
from typing import Any

AUDIT_SKIPPED = "AUDIT SKIPPED"  # and the user's reason
OPTIMISTIC = "OPTIMISTIC: under the paper's protocol the epoch was chosen on the very subjects it is scored on"


def stamps_of(summaries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """What everything made of a run must be stamped with, each once.

    Args:
        summaries: content of the folds' `summary.json`, or of the run's `metrics.json`.
    """
    return tuple(dict.fromkeys(summary["warning"] for summary in summaries if summary.get("warning")))


def without_reasons(stamps: Iterable[str]) -> tuple[str, ...]:
    """The stamps to give away: what the user wrote of people to skip the audit stays at home."""
    return tuple(
        stamp if AUDIT_SKIPPED not in stamp else stamp[: stamp.index(AUDIT_SKIPPED)] + AUDIT_SKIPPED for stamp in stamps
    )
