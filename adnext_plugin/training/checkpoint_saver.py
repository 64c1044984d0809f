"""Checkpoints written at once, or beside the training that goes on.

A GPU trains an epoch of a small cohort in the time that its state takes to be written. So the state is copied, on the
device, and a thread brings it to the CPU, looks at it and writes it. What is written is whole at any moment, as ever;
until it is, the state before is what there is. Where a file is to be written anew before an earlier state of it was
begun, that one is left out, so that a disk never holds the training up.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from adnext_plugin.errors import AdnextError
from adnext_plugin.training.checkpoints import copy_checkpoint, write_checkpoint
from adnext_plugin.training.weights import not_finite


class CheckpointSaver:
    """Writes the checkpoints of a run, one after the other.

    Args:
        in_background: beside the training; an error is then raised by what is called next.
    """

    def __init__(self, *, in_background: bool) -> None:
        self._in_background = in_background
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")  # starts none before it is needed
        self._pending: list[tuple[Path, Future[None]]] = []
        self._saved_at = float("-inf")  # on the monotonic clock

    def save(self, checkpoint: dict[str, Any], path: Path, earlier: Path | None, epoch: int) -> None:
        """Write a state, which may change as soon as this returns.

        Args:
            checkpoint: what to write, with `network_weights` among it.
            path: file to write.
            earlier: where to keep what has been in its place.
            epoch: for messages.

        Raises:
            AdnextError: weights are not finite; what was saved before is left as it is.
            PathsError: the disk is full.
        """
        if not self._in_background:
            _write(checkpoint, path, earlier, epoch)
            return
        self._leave_out(path)
        self._saved_at = time.monotonic()
        bring = _copy_of(checkpoint)
        self._pending.append((path, self._threads.submit(lambda: _write(bring(), path, earlier, epoch))))

    def save_again(self, source: Path, path: Path, earlier: Path | None) -> None:
        """Write the state that was saved last a second time, as a file of its own."""
        if self._in_background:
            self._pending.append((path, self._threads.submit(copy_checkpoint, source, path, earlier)))
        else:
            copy_checkpoint(source, path, earlier)

    def is_writing(self) -> bool:
        """Whether something that was saved is not written yet."""
        return not all(written.done() for _, written in self._pending)

    def is_due(self, seconds: float) -> bool:
        """Whether a state to resume from is worth what it costs; in the background, not so soon after any other.

        Args:
            seconds: between states.
        """
        if not self._in_background:
            return True
        # nor is a disk that is slower than epochs to hold them up
        return not self.is_writing() and time.monotonic() - self._saved_at >= seconds

    def wait(self) -> None:
        """Wait until all is written.

        Raises:
            AdnextError: something could not be.
        """
        pending, self._pending = self._pending, []
        for _, written in pending:
            written.result()

    def _leave_out(self, path: Path) -> None:
        """Forget what is written, and what has not been begun for a path, with what was to be copied from it."""
        while self._pending and self._pending[0][1].done():
            self._pending.pop(0)[1].result()
        for number, (other, written) in enumerate(self._pending):
            if other == path and written.cancel():
                for _, later in self._pending[number + 1 :]:
                    later.cancel()
                del self._pending[number:]
                return


def _write(checkpoint: dict[str, Any], path: Path, earlier: Path | None, epoch: int) -> None:
    if (name := not_finite(checkpoint["network_weights"])) is not None:
        raise AdnextError(f"{name} is no longer finite after epoch {epoch}; lower the learning rate")
    write_checkpoint(checkpoint, path, earlier)


def _copy_of(checkpoint: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """Copies on the same device, one for all tensors of a kind; gives what brings them to the CPU in another thread."""
    kinds: dict[tuple[torch.device, torch.dtype], list[torch.Tensor]] = {}

    def noted(tensor: torch.Tensor) -> torch.Tensor:
        kinds.setdefault((tensor.device, tensor.dtype), []).append(tensor)
        return tensor

    content = _with_tensors(checkpoint, noted)
    try:
        # one after the other, hundreds of tensors would be as many kernels to launch, and as many copies to wait for
        copies = {kind: _joined(tensors) for kind, tensors in kinds.items()}
    except torch.OutOfMemoryError:
        on_cpu = _with_tensors(content, lambda tensor: tensor.to("cpu", copy=True))
        return lambda: on_cpu
    gpu = next((device for device, _ in copies if device.type == "cuda"), None)
    copied = None if gpu is None else torch.cuda.current_stream(gpu).record_event()

    def bring() -> dict[str, Any]:
        brought = copies if gpu is None or copied is None else _from_gpu(gpu, copies, copied)
        parts: dict[int, torch.Tensor] = {}
        for kind, tensors in kinds.items():
            pieces = brought[kind].split([tensor.numel() for tensor in tensors])
            for tensor, piece in zip(tensors, pieces, strict=True):
                # of its own: as a part of all others it would be read with them. As it lies in memory: an optimizer
                # takes a parameter and its moments value after value
                own = torch.empty_like(tensor, device=piece.device)
                parts[id(tensor)] = own.copy_(piece.view(tensor.shape))
        return _with_tensors(content, lambda tensor: parts[id(tensor)])

    return bring


@torch.no_grad()
def _joined(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _from_gpu(gpu: torch.device, copies: dict[Any, torch.Tensor], copied: torch.cuda.Event) -> dict[Any, torch.Tensor]:
    # a stream of its own, beside the kernels of the training; a thread's is else one of the first GPU
    with torch.cuda.device(gpu), torch.cuda.stream(stream := torch.cuda.Stream(gpu)):
        stream.wait_event(copied)
        brought = {kind: copy.cpu() for kind, copy in copies.items()}
        stream.synchronize()
    return brought


def _with_tensors(content: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same content with changed tensors; lists, which a run appends to, are copied, too.

    A tensor that stands in two places, as tied weights do, stays one.
    """
    seen: dict[int, torch.Tensor] = {}

    def visited(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if id(value) not in seen:
                seen[id(value)] = change(value)
            return seen[id(value)]
        if isinstance(value, Mapping):
            copy = {key: visited(item) for key, item in value.items()}
            return copy if type(value) is dict else _like(value, copy)
        if type(value) in (list, tuple):
            return type(value)(visited(item) for item in value)
        return value

    with torch.no_grad():
        return visited(content)


def _like(mapping: Mapping[Any, Any], copy: dict[Any, Any]) -> Any:
    """A copy of the kind of mapping that `state_dict` gives, whose versions stand in an attribute."""
    found = type(mapping)(copy)  # type: ignore[call-arg]
    if hasattr(mapping, "_metadata"):
        found._metadata = mapping._metadata  # type: ignore[attr-defined]
    return found
