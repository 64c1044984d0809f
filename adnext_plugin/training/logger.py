"""What is logged once per epoch, and the figure of it."""

import math
from datetime import timedelta
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nnunetv2.training.logging.nnunet_logger import LocalLogger

from adnext_plugin.paths import replacing
from adnext_plugin.records import Protocol

LOSSES = ("train_losses", "val_losses")
SCORES = ("val_auc", "val_accuracy")


class ADNeXtLogger(LocalLogger):
    """nnU-Net's local logger with the quantities of a classifier. `val` is what epochs are compared on."""

    def __init__(self) -> None:
        super().__init__()
        keys = (*LOSSES, *SCORES, "lrs", "epoch_start_timestamps", "epoch_end_timestamps")
        self.my_fantastic_logging = {key: [] for key in keys}

    def describe_epoch(self, num_epochs: int, chosen_on: str) -> str:
        """One line about the last epoch logged and the time the rest will take."""
        log = self.my_fantastic_logging
        starts, ends = log["epoch_start_timestamps"], log["epoch_end_timestamps"]
        seconds = [end - start for start, end in zip(starts, ends, strict=True)]
        remaining = timedelta(seconds=round((num_epochs - len(ends)) * sum(seconds) / len(seconds)))
        return (
            f"epoch {len(ends)}/{num_epochs}  train loss {log['train_losses'][-1]:.4f}  "
            f"{chosen_on} loss {log['val_losses'][-1]:.4f} AUC {log['val_auc'][-1]:.3f} "
            f"accuracy {log['val_accuracy'][-1]:.3f}  lr {log['lrs'][-1]:.2e}  {seconds[-1]:.1f} s  ETA {remaining}"
        )

    def score_of_epoch(self, protocol: Protocol) -> tuple[float, float]:
        """What epochs are compared by, the larger the better: AUC, or the paper's accuracy, and then the lower loss.

        With few cases to choose on equal AUCs are common. Where one class is absent, the loss alone decides.
        """
        log = self.my_fantastic_logging
        score = log["val_accuracy" if protocol == "paper" else "val_auc"][-1]
        return (0.0 if math.isnan(score) else score), -log["val_losses"][-1]

    def plot_progress_png(self, output_folder: str) -> None:
        """Draw losses, scores and learning rate over the epochs into `progress.png`."""
        figure = Figure(figsize=(9, 10), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(3, 1, sharex=True)
        for axes, keys, label in zip(
            panels, (LOSSES, SCORES, ("lrs",)), ("loss", "score", "learning rate"), strict=True
        ):
            for key in keys:
                values = self.my_fantastic_logging[key]
                axes.plot(range(len(values)), values, label=key)
            axes.set_ylabel(label)
            axes.legend()
        panels[-1].set_xlabel("epoch")
        with replacing(Path(output_folder) / "progress.png") as temporary:
            figure.savefig(temporary, dpi=80)
