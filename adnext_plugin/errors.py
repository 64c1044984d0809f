"""The family of errors a user can cause. Commands print them as one line and exit with code 2."""

import difflib
from collections.abc import Iterable


class AdnextError(Exception):
    """Something the user can mend. The message names what is wrong, the value, where, and the remedy."""


class ImageError(AdnextError):
    """An image file is missing, damaged or unusable."""


class TableError(AdnextError):
    """A table of subjects, or a column or value in it, is unusable."""


class SettingsError(AdnextError):
    """A setting of a plan, a trainer or a command is unknown, of the wrong type or out of range."""


class SplitError(AdnextError):
    """Cross-validation folds cannot be made, or those on disk do not fit the data."""


class PathsError(AdnextError):
    """A folder, file or environment variable that a stage needs is missing."""


class FormatError(AdnextError):
    """A file is another program's, or of a version that this one cannot read."""


class WeightsError(AdnextError):
    """A checkpoint does not fit the network or the run that wants it."""


class SegmentationError(AdnextError, SystemExit):
    """A command of nnU-Net asks for a segmentation that cannot be had: there is none, or not this way.

    nnU-Net catches no errors of ours. Python ends a program on a `SystemExit` with its message and no traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = f"error: {message}"


class BundleError(AdnextError):
    """A model bundle is damaged, was tampered with, or is none."""


class ExportError(AdnextError):
    """A model cannot be written as a program, or the program does not answer as the model does."""


class OtherDataError(AdnextError):
    """The prepared data are not those that a run was trained on."""


class LostProcessError(AdnextError):
    """A process that trained together with this one is gone; why is said by itself, or by what has started it."""


class UnknownNameError(AdnextError):
    """A name was looked up and nothing is registered under it."""


class RegistryError(AdnextError):
    """What is registered under a name cannot be used: two packages claim the name, or its import fails."""


class AdnextWarning(UserWarning):
    """Something that the user can mend and that does not stop a command, which prints it as one line."""


def nearest_names(name: str, known: Iterable[str]) -> str:
    """Word a suggestion for a misspelt name.

    Returns:
        "; did you mean 'x'?" if something registered is close, else "; known: a, b, c".
    """
    known = sorted(known)
    by_lower_case = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1)
    if close:
        return f"; did you mean {by_lower_case[close[0]]!r}?"
    return f"; known: {', '.join(known) or 'none'}"
