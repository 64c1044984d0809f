"""Scores and their intervals, as the terminal shows them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from adnext_plugin.findings import Estimate


def print_scores(scores: "Mapping[str, Estimate]") -> None:
    """Print one score a line, with its interval."""
    for name, estimate in scores.items():
        print(f"  {name.replace('_', ' '):50}{in_words(estimate)}")


def in_digits(value: float | None) -> str:
    """Three digits after the point; a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def p_in_words(value: float | None) -> str:
    """A p value, or another number whose smallness is all that matters."""
    return "<0.001" if value is not None and 0 < value < 0.001 else in_digits(value)


def in_words(estimate: "Estimate") -> str:
    """A value with its interval, as in 0.812 [0.741, 0.870]; a dash where there is none."""
    if estimate.value is None:
        return "-"
    if estimate.low is None:
        return f"{estimate.value:.3f} (no interval)"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
