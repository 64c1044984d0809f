"""What commands that look at all cases of prepared datasets have in common."""

import sys
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from adnext_plugin.paths import PLANS_NAME, dataset_folder_name, preprocessed_dir


class Looked(Protocol):
    """Why cases failed, by their ids, and what was written; no sheet where nothing was."""

    @property
    def failed(self) -> Mapping[str, str]: ...
    @property
    def sheet(self) -> Path | None: ...
    @property
    def table_file(self) -> Path | None: ...


class OfDataset(Protocol):
    """What is asked of a dataset, by number or name."""

    @property
    def dataset(self) -> str: ...


RequestType = TypeVar("RequestType", bound=OfDataset)


def add_datasets_arguments(parser: ArgumentParser) -> None:
    """Add the datasets and the name of their plans."""
    parser.add_argument("--dataset", "-d", nargs="+", required=True, help="dataset numbers or names")
    parser.add_argument("--plans", "-p", default=PLANS_NAME, help="name of the plans file")


def look_at_each(requests: Sequence[RequestType], look: Callable[[RequestType], Looked]) -> int:
    """Look at one dataset after the other and say what came of it.

    Returns:
        The exit code: 2 where a case failed, or nothing was written.
    """
    for request in requests:  # a wrong name is to be found before the first dataset is looked at
        dataset_folder_name(request.dataset, [preprocessed_dir()])
    return max(_told(look(request)) for request in requests)


def _told(result: Looked) -> int:
    for case, reason in result.failed.items():
        print(f"error: {case}: {reason}", file=sys.stderr)
    if result.sheet is not None:
        print(f"Look at {result.sheet}; the numbers are in {result.table_file}")
    return 2 if result.failed or result.sheet is None else 0
