"""Which of two classes is the positive one: the one that is looked for, as a rule the disease.

Sensitivity, predictive values, the decision curve and what is called all turn on it, so it is never left to the
alphabet.
"""

import re
from collections.abc import Sequence

from adnext_plugin.errors import TableError, nearest_names

# words for "nothing is there", without case and signs
NORMAL = (
    *("cn", "hc", "nc", "nl", "hv", "con", "ctrl", "ctl", "control", "controls", "healthy", "normal", "unaffected"),
    *("healthycontrol", "healthycontrols", "normalcontrol", "normalcontrols", "cognitivelynormal"),
    *("nondemented", "nodementia", "nondementia", "stable", "nonconverter", "absent", "none"),
    *("no", "n", "false", "negative", "neg", "0", "-1"),
)
# of these the later one is looked for
STAGES = ("smc", "scd", "sci", "emci", "smci", "mci", "lmci", "pmci", "cmci", "ad", "dementia", "alzheimer")
# of these neither is; an order that is the same everywhere
CONVENTIONS = (({"f", "female", "w", "woman"}, {"m", "male", "man"}), ({"young", "younger"}, {"old", "older"}))


def in_order(classes: Sequence[str], column: str, positive: str | None = None) -> tuple[str, ...]:
    """The classes with the positive one of two last; more than two stay as they are.

    Args:
        classes: as they occur.
        column: that they stand in, for messages.
        positive: that of two which was named as positive.

    Raises:
        TableError: `positive` is none of two classes, or there are two of which neither is known to be normal or the
            other one's worse stage.
    """
    if positive is not None:
        if len(classes) != 2:
            raise TableError(f"--positive is for two classes, but {column} gives {len(classes)}: {', '.join(classes)}")
        if positive not in classes:
            suggestion = nearest_names(positive, classes)
            raise TableError(
                f"--positive {positive!r} is no class of {column}{suggestion}; it has {', '.join(classes)}"
            )
        return (*(name for name in classes if name != positive), positive)
    if len(classes) != 2:
        return tuple(classes)
    first, second = classes
    order = known_order(first, second)
    if order is None:
        raise TableError(
            f"which of {first!r} and {second!r} in {column} is looked for, as a disease would be? Sensitivity and all "
            f"that is called depend on it; say it with --positive {second!r}"
        )
    return order


def known_order(first: str, second: str) -> tuple[str, str] | None:
    """Two classes with the one last that is looked for; None where their names do not say."""
    for low, high in ((first, second), (second, first)):
        words = _letters(low), _letters(high)
        if words[0] in NORMAL and words[1] not in NORMAL:
            return low, high
        if all(word in STAGES for word in words) and STAGES.index(words[0]) < STAGES.index(words[1]):
            return low, high
        if any(words[0] in lower and words[1] in upper for lower, upper in CONVENTIONS):
            return low, high
    return None


def _letters(name: str) -> str:
    """The name without case, spaces and signs, but for a number's minus."""
    return name.strip() if re.fullmatch(r"-?\d+", name.strip()) else re.sub(r"[\W_]", "", name.casefold())
