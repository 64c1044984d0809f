"""How long would a GPU wait for the processor in an epoch? The program runs as it is; the GPU is a clock.

    OMP_NUM_THREADS=1 python benchmarks/ends_of_epochs.py [--epochs 30] [--dry]

Whatever a run does beside computing is done: it draws an epoch's order, makes batches of volumes that are kept on the
device, in the way that is used there, launches, steps the optimizer, scores, logs, copies states and writes them down.
What a GPU would compute, the network forward and back, the fused optimizer and the copy of a state, takes no time of
the processor; the clock adds the milliseconds that an H100 was measured to take for a step (docs/results.md), and
whoever reads a value waits for it. A graph is launched in LAUNCH_SECONDS, an assumption. Volumes are small, so that
their augmentation costs the processor little more than its launches would.

Prints JSON and writes it to benchmarks/results/ends_of_epochs.json unless --dry: the share of epochs in which the clock
ran, and the milliseconds that the processor took for a step and between epochs.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import MethodType
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from gpu_acceptance_data import BATCH, CASES, prepared_of_drawn, trainer_on_drawn

from adnext_plugin.batch import Batch
from adnext_plugin.data.loading import CaseDataset, EpochSampler
from adnext_plugin.data.resident import ResidentLoader
from adnext_plugin.on_device.change import SeededChange
from adnext_plugin.on_device.fields import FieldsOfDevice
from adnext_plugin.on_device.forms import done
from adnext_plugin.on_device.seeding import seed_all
from adnext_plugin.trainers import lifecycle
from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.training import checkpoint_saver
from adnext_plugin.training.provenance import provenance

RESULT = Path(__file__).parent / "results" / "ends_of_epochs.json"
# seconds of a step and of a batch that is judged, batch 4, 128³, bfloat16, H100; a third of a step is its forward pass
GPU_SECONDS = {"ADNeXtTrainer_T": (0.0041, 0.0014), "ADNeXtTrainer_B": (0.0141, 0.0047)}
LAUNCH_SECONDS = 0.0007
EDGE = 32
WARM_EPOCHS = 3
QUANTILES = {"least": 0, "quarter": 0.25, "median": 0.5, "most": 1}


class Clock:
    """A GPU that works off what it is given, one thing after the other, and does nothing."""

    def __init__(self) -> None:
        self.busy = 0.0
        self._until = 0.0

    def work(self, seconds: float) -> None:
        """Give it work."""
        time.sleep(LAUNCH_SECONDS)  # as a launch does, without holding up other threads
        self._until = max(self._until, time.perf_counter()) + seconds
        self.busy += seconds

    def wait(self) -> None:
        """Wait until it has none."""
        time.sleep(max(0.0, self._until - time.perf_counter()))

    def before(self, reads: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same, once it has none."""

        def waits(values: Any) -> Any:
            self.wait()
            return reads(values)

        return waits


def main() -> None:
    """Run epochs of each trainer; print and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--dry", action="store_true", help="do not write the result file")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"made_by": provenance(), "batch": BATCH, "launch_seconds": LAUNCH_SECONDS, "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        prepared_of_drawn(Path(folder), EDGE, arguments.cases)
        for name in GPU_SECONDS:
            report["rows"].append(_epochs(name, Path(folder), arguments.epochs))
    text = json.dumps(report, indent=1)
    print(text)
    if not arguments.dry:
        RESULT.write_text(text + "\n")


def _epochs(name: str, folder: Path, epochs: int) -> dict[str, Any]:
    clock, (step_seconds, judged_seconds) = Clock(), GPU_SECONDS[name]
    trainer = trainer_on_drawn(name, "cpu", folder)
    trainer.on_train_start()
    training, selection = trainer.do_split()
    trainer.dataloader_train = _on_device(trainer, training, is_trained=True)
    trainer.dataloader_val = _on_device(trainer, selection, is_trained=False)
    gradients = [(parameter, torch.zeros_like(parameter)) for parameter in trainer.network.parameters()]
    for parameter, gradient in gradients:
        parameter.grad = gradient
    trainer.optimizer.step()  # its state is there from now on
    loss = torch.tensor(0.5)

    def launched(_: ADNeXtTrainer, __: Batch) -> torch.Tensor:
        clock.work(step_seconds)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        return loss

    def judged(_: ADNeXtTrainer, batch: Batch) -> dict:
        clock.work(judged_seconds)
        return {"indices": batch.indices, "outputs": torch.randn(len(batch.indices), 2)}

    trainer._loss_of_launched_step = MethodType(launched, trainer)
    trainer.validation_step = MethodType(judged, trainer)
    trainer._saver = checkpoint_saver.CheckpointSaver(in_background=True)
    copies: dict[Any, torch.Tensor] = {}

    def joined(tensors: list[torch.Tensor]) -> torch.Tensor:
        flat = [tensor.flatten() for tensor in tensors]
        kind = (len(flat), flat[0].dtype)
        if kind not in copies:
            copies[kind] = torch.cat(flat)
        return copies[kind]

    shares, between = [], []
    with (
        patch.object(SeededChange, "__call__", _changed_on_device),
        patch.object(torch, "_fused_adamw_", lambda *_, **__: None),
        patch.object(checkpoint_saver, "_joined", joined),
        patch.object(lifecycle, "numbers", clock.before(lifecycle.numbers)),
        patch.object(lifecycle, "on_cpu", clock.before(lifecycle.on_cpu)),
    ):
        for _ in range(WARM_EPOCHS):
            trainer.run_epoch()
        clock.wait()
        for _ in range(epochs):
            started, busy = time.perf_counter(), clock.busy
            trainer.run_epoch()
            seconds = time.perf_counter() - started
            shares.append((clock.busy - busy) / seconds)
            between.append(1000 * (seconds - (clock.busy - busy)))
        trainer.on_train_epoch_start()
        started, steps = time.perf_counter(), trainer.num_iterations_per_epoch
        for _ in range(steps):
            trainer.train_step(next(trainer.dataloader_train))
        step_milliseconds = 1000 * (time.perf_counter() - started) / steps
        trainer.wait_for_checkpoints()
    return {
        "trainer": name,
        "steps": steps,
        "batches_judged": trainer.num_val_iterations_per_epoch,
        "gpu_milliseconds": {"step": 1000 * step_seconds, "batch_judged": 1000 * judged_seconds},
        "processor_milliseconds_a_step": round(step_milliseconds, 2),
        "busy": {name: round(float(np.quantile(shares, at)), 4) for name, at in QUANTILES.items()},
        "busy_over_all_epochs": round(sum(shares) / len(shares), 4),
        "milliseconds_of_an_epoch_without_work": round(float(np.median(between)), 1),
    }


def _on_device(trainer: ADNeXtTrainer, cases: list[str], *, is_trained: bool) -> ResidentLoader:
    data = trainer._data
    change = trainer.build_augmentation() if is_trained else None
    dataset = CaseDataset(data.store(cases), data.targets(cases), np.zeros((len(cases), 0), np.float32), change, 0)
    return ResidentLoader(dataset, EpochSampler(len(cases), BATCH, shuffle=is_trained), torch.device("cpu"))


def _changed_on_device(change: SeededChange, image: torch.Tensor, seed: int) -> torch.Tensor:
    seed_all(change._chain, seed)
    return done(change._chain.transforms, image, FieldsOfDevice(image.device, seed))


if __name__ == "__main__":
    main()
