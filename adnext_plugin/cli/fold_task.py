"""A process that trains one fold for a command that trains several at once; not a command of its own."""

import json
import os
import signal
import sys
import threading
from collections.abc import Sequence

from adnext_plugin.cli.command import command


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Train the fold of a request, given as JSON."""
    from adnext_plugin.workflows.fold_tasks import DEVICE
    from adnext_plugin.workflows.train import Request, train_fold

    (text,) = argv or ()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    device = train_fold(Request(**json.loads(text)), tell=print)
    print(f"{DEVICE}{device}", file=sys.stderr)
    return 0


def _end_with_parent() -> None:
    """End this process, so that it cleans up, when whoever started it is gone and has let go of its standard input."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
