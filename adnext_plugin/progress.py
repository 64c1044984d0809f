"""Progress bars for whoever watches; files and pipes that a command writes to are spared them."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(*arguments: Any, **options: Any) -> tqdm:
    """A bar of tqdm, which takes the same; silent where nobody sees it: in a file, a pipe or a job's log."""
    is_watched = sys.stderr.isatty() or "ipykernel" in sys.modules  # a notebook's output is no terminal
    return tqdm(*arguments, disable=not is_watched, **options)
