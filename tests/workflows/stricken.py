"""A fold that is trained by no network: its processes meet, and then something happens to one of them."""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist

from adnext_plugin.cli.command import command
from adnext_plugin.errors import SettingsError
from adnext_plugin.workflows.common import say_nothing
from adnext_plugin.workflows.processes import dismiss_followers, follow, is_follower, train_together


def _run_out_of_disk() -> None:
    raise OSError(28, "No space left on device")


def _refuse() -> None:
    raise SettingsError("lower the rate")


def _break() -> None:
    raise KeyError("ours")


HAPPENINGS = {
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "terminated": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "aborted": os.abort,
    "disk": _run_out_of_disk,
    "refused": _refuse,
    "fault": _break,
    "nothing": lambda: None,
}


@dataclass(frozen=True, kw_only=True)
class Stricken:
    """Stands for a `FoldTraining`."""

    rank: int
    what: str
    device: str = "cpu"
    arguments: dict = field(default_factory=dict)

    def run(self) -> None:
        """Let it happen, while the others wait."""
        dist.all_reduce(torch.ones(1))
        if dist.get_rank() == self.rank:
            HAPPENINGS[self.what]()
        dist.all_reduce(torch.ones(1))


@command
def main(argv: Sequence[str] | None = None) -> int:
    """What `train` does in each process of torchrun's: given a rank, and what happens to it."""
    rank, what = argv or ()
    if is_follower():
        follow("cpu")
        return 0
    if what == "refused before":
        _refuse()
    train_together(Stricken(rank=int(rank), what=what), 1, say_nothing)
    dismiss_followers("cpu")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
