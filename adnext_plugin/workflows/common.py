"""What all use cases share: how they say what happens, which device they compute on, how often they resample.

A use case is a function from a frozen request to a frozen result. It parses no command line and prints nothing; what a
person may want to read while it works goes through a callback.
"""

from collections.abc import Callable

from adnext_plugin.errors import SettingsError

Tell = Callable[[str], None]  # is given one line, or several separated by line breaks

FEWEST_RESAMPLES = 100  # from which 2.5 % and 97.5 % can be read


def say_nothing(text: str) -> None:
    """A `Tell` for callers who want the result alone."""


def choose_device(name: str | None) -> str:
    """The device asked for, or a GPU where there is one.

    Raises:
        SettingsError: torch sees no GPU.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("-device cuda: torch sees no GPU here; use -device cpu")
    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def require_resamples(resamples: int) -> int:
    """A number of bootstrap resamples that 95 % intervals can be read from.

    Raises:
        SettingsError: it is too small.
    """
    if resamples < FEWEST_RESAMPLES:
        raise SettingsError(f"--resamples must be at least {FEWEST_RESAMPLES} for 95 % intervals, got {resamples}")
    return resamples
