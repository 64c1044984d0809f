"""What is logged once per epoch, and the figure of it."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nnunetv2.training.logging.nnunet_logger import LocalLogger

from adnext_plugin.files import replacing

LOSSES = ("train_losses", "val_losses")


class RunLogger(LocalLogger):
    """nnU-Net's local logger with our quantities. `val` is what epochs are compared on.

    Args:
        score_names: what is logged as `val_{key}` besides losses, and what a reader calls it.
        compared_on: what the cases epochs are compared on are called.
    """

    def __init__(self, score_names: Mapping[str, str], compared_on: str) -> None:
        super().__init__()
        self._titles = {"train_losses": "training", "val_losses": compared_on}
        self._titles |= {f"val_{key}": f"{name}, {compared_on}" for key, name in score_names.items()}
        self._scores = {f"val_{key}": name for key, name in score_names.items()}
        keys = (*LOSSES, *self._scores, "lrs", "epoch_start_timestamps", "epoch_end_timestamps")
        self.my_fantastic_logging: dict[str, list] = {key: [] for key in keys}

    def describe_epoch(self, num_epochs: int, chosen_on: str) -> str:
        """One line about the last epoch logged and the time the rest will take."""
        log = self.my_fantastic_logging
        starts, ends = log["epoch_start_timestamps"], log["epoch_end_timestamps"]
        seconds = [end - start for start, end in zip(starts, ends, strict=True)]
        remaining = timedelta(seconds=round((num_epochs - len(ends)) * sum(seconds) / len(seconds)))
        return (
            f"epoch {len(ends)}/{num_epochs}  train loss {log['train_losses'][-1]:.4f}  "
            f"{self.describe_scores(chosen_on)}  lr {log['lrs'][-1]:.2e}  {seconds[-1]:.1f} s  ETA {remaining}"
        )

    def describe_scores(self, chosen_on: str) -> str:
        """What the last epoch logged reached on the cases it is compared on."""
        log = self.my_fantastic_logging
        scores = "".join(f" {name} {log[key][-1]:.3f}" for key, name in self._scores.items())
        return f"{chosen_on} loss {log['val_losses'][-1]:.4f}{scores}"

    def plot_progress_png(self, output_folder: str) -> None:
        """Draw losses, scores and learning rate over the epochs into `progress.png`."""
        figure = Figure(figsize=(9, 10), dpi=80)
        # margins that are found, and a savefig that draws twice, take as long as some epochs of a small cohort
        figure.subplots_adjust(left=0.1, right=0.98, bottom=0.06, top=0.98, hspace=0.05)
        canvas = FigureCanvasAgg(figure)
        contents = {"loss": LOSSES, "score": tuple(self._scores), "learning rate": ("lrs",)}
        contents = {label: keys for label, keys in contents.items() if keys}
        panels = figure.subplots(len(contents), 1, sharex=True)
        for axes, (label, keys) in zip(panels, contents.items(), strict=True):
            for key in keys:
                values = self.my_fantastic_logging[key]
                axes.plot(range(1, len(values) + 1), values, label=self._titles.get(key, "learning rate"))
            axes.set_ylabel(label)
            axes.legend()
        panels[-1].set_xlabel("epoch")
        with replacing(Path(output_folder) / "progress.png") as temporary:
            canvas.print_png(temporary)
