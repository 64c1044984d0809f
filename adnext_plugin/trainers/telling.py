"""How trainers say what they do: into nnU-Net's log of the fold, and to whoever is told what is said."""

import logging
from typing import Any

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from adnext_plugin.log import LOG, is_told


class TellingTrainer(nnUNetTrainer):
    """nnU-Net's trainer, whose lines are said where somebody is told of them, and printed as ever where nobody is."""

    def print_to_log_file(self, *args: Any, also_print_to_console: bool = True, add_timestamp: bool = True) -> None:
        """As nnU-Net's, but of several processes only the first speaks."""
        if self.local_rank != 0:
            return
        told = is_told()
        super().print_to_log_file(
            *args, also_print_to_console=also_print_to_console and not told, add_timestamp=add_timestamp
        )
        if told:
            # what comes without the time are nnU-Net's citation, plans and empty lines
            is_for_users = also_print_to_console and add_timestamp
            LOG.log(logging.INFO if is_for_users else logging.DEBUG, " ".join(map(str, args)).strip())
