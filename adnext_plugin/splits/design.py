"""What folds are together: a cross-validation, several of them in a row, or one fixed hold-out.

In a cross-validation every case is held out once; in a repeated one, once in every repeat, whose folds stand one after
the other; with a fixed hold-out there is one fold, and all others are never held out.
"""

from collections.abc import Collection, Mapping, Sequence

from adnext_plugin.errors import SplitError

Fold = dict[str, list[str]]  # case ids of each part

PARTS = ("train", "selection", "val")

Held = Mapping[str, Collection[str]]  # a fold, of which `val` counts here


def is_hold_out(splits: Sequence[Held]) -> bool:
    """Whether there is one fold alone."""
    return len(splits) == 1


def repeats_of(splits: Sequence[Held]) -> tuple[tuple[int, ...], ...]:
    """Numbers of the folds of every repeat, of folds that `check_design` has let pass; one repeat is the usual."""
    if is_hold_out(splits):
        return ((0,),)
    return _repeats(splits, {case for fold in splits for case in fold["val"]}) or (tuple(range(len(splits))),)


def check_design(splits: Sequence[Held], cases: Collection[str], where: str, remedy: str) -> None:
    """Make sure that folds are one of the three.

    Args:
        splits: folds; what is in their parts is known to be cases.
        cases: all of them.
        where: the file, for messages.
        remedy: what to do about another design.

    Raises:
        SplitError: they are not; names a case that is held out too often or never.
    """
    if is_hold_out(splits):
        if not splits[0]["val"]:
            raise SplitError(f"{where}: the one fold holds nobody out; {remedy}")
        return
    repeats = _repeats(splits, set(cases))
    if repeats is None:
        counts = dict.fromkeys(cases, 0)
        for fold in splits:
            for case in fold["val"]:
                counts[case] += 1
        odd = next((case for case in sorted(counts) if counts[case] != 1), None)
        raise SplitError(
            f"{where}: case {odd!r} is held out in {counts.get(str(odd), 0)} folds instead of one. For a repeated "
            "cross-validation list all folds of one repeat after those of another; for a fixed hold-out, one fold "
            f"alone; else {remedy}"
        )
    sizes = [len(folds) for folds in repeats]
    if len(set(sizes)) > 1:
        raise SplitError(f"{where}: the repeats have {sizes} folds, but every one must have as many; {remedy}")


def _repeats(splits: Sequence[Held], cases: set[str]) -> tuple[tuple[int, ...], ...] | None:
    """Consecutive folds that hold every case out once; None where they do not come out even."""
    repeats, folds, seen = [], [], set[str]()
    for number, fold in enumerate(splits):
        held_out = set(fold["val"])
        if held_out & seen:
            return None
        seen |= held_out
        folds.append(number)
        if seen == cases:
            repeats.append(tuple(folds))
            folds, seen = [], set()
    return None if folds or not repeats else tuple(repeats)
