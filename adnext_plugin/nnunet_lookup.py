"""Trainers as nnU-Net finds them, by looking through files; ours are found by name in `registry`."""

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from adnext_plugin.log import without_nnunets_search

Found = TypeVar("Found")

ATTEMPTS = 5
CHANGED = "changed size during iteration"


def find_in_files(name: str) -> type | None:
    """The class of that name in nnU-Net or in a folder of `nnUNet_extTrainer`; None where there is none.

    Afterwards nnU-Net's own search finds it as well (see `walked`), and says so to nobody.
    """
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    with without_nnunets_search():
        try:
            return walked(lambda: recursive_find_trainer_class_by_name(name))
        except RuntimeError as error:
            if CHANGED in str(error):
                raise
            return None


def walked(search: Callable[[], Found]) -> Found:
    """The result of a search of nnU-Net's, which walks over all loaded modules and asks each for its file.

    A lazy module loads others when it is asked, and the walk fails. What has been asked before loads nothing more.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return search()
        except RuntimeError as error:
            if CHANGED not in str(error):
                raise
        for module in list(sys.modules.values()):
            for attribute in ("__file__", "__path__"):
                with suppress(Exception):  # of a module of anybody's
                    getattr(module, attribute, None)
    return search()
