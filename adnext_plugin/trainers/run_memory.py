"""What a run needs of a GPU's memory: said before it begins, and where there was too little, what helps this run."""

import math

import torch

from adnext_plugin.memory_shortage import FOR_TRAINING
from adnext_plugin.networks.recomputation import computing_again
from adnext_plugin.trainers.fold_run import FoldRun
from adnext_plugin.trainers.processes import number_of_processes
from adnext_plugin.training.batch_norm import batch_norms
from adnext_plugin.training.memory import kept_bytes, memory_line, needed_of_parts


class MemoryOfRun(FoldRun):
    """A run that knows what a step of it will take."""

    # ------------------------------------------------------------------ what a subclass may override

    def bytes_of_case(self) -> int:
        """What a training step keeps of one case for the gradient, estimated without data: of a pass of an image, with
        columns where there are some, through the network.
        """
        shapes: list[tuple[int, ...]] = [(self.num_input_channels, *self.network_input_voxels)]
        if self.columns_told():
            shapes.append((len(self.columns_told()),))
        return kept_bytes(self._plain_network(), shapes, self.arithmetic.used)

    def step_in_words(self) -> str:
        """What is trained, and the size of its input."""
        return f"{self.plan.network.name}, batch {self._batch_of_process}, {in_words(self.network_input_voxels)}"

    def batch_can_be_cut(self) -> bool:
        """Whether a batch may go through the network part by part."""
        return True

    @property
    def network_input_voxels(self) -> tuple[int, int, int]:
        """(Z, Y, X) of what the network is fed."""
        return self.plan.preprocessing.input_size_voxels

    # ------------------------------------------------------------------ what is said

    def about_memory(self) -> str:
        """What a step is estimated to need of the GPU, with advice where it hardly fits."""
        network, batch, again = self._plain_network(), self._batch_of_process, []
        try:
            kept = self.bytes_of_case()
            needed = needed_of_parts(network, kept, batch)
            if self._may_compute_again:
                with computing_again(network) as count:
                    again = needed_of_parts(network, self.bytes_of_case(), batch) if count else []
        except Exception as error:  # a network of somebody's own may need values; training goes on
            return f"How much memory a step needs cannot be estimated ({type(error).__name__})"
        free_bytes, _ = torch.cuda.mem_get_info(self.device)
        parts, (most, smallest) = min(self.settings.accumulate, len(needed)), self._parts_possible
        processes, smaller = number_of_processes(), []
        if not self.batch_can_be_cut():
            sizes = [size for size in range(batch - 1, 0, -1) if size * processes > 1]
            smaller = [(size * processes, needed_of_parts(network, kept, size)[0]) for size in sizes]
        return memory_line(
            f"{self.step_in_words()}, {self.arithmetic.used}",
            needed[parts - 1 : most],
            free_bytes,
            parts,
            recomputed_bytes=again[parts - 1 : most],
            smallest_part=smallest,
            smaller_batches=smaller,
        )

    def memory_advice(self) -> str:
        """What helps this run where memory ran out."""
        if not self.was_initialized:
            return FOR_TRAINING
        parts, (most, _), ways = self.settings.accumulate, self._parts_possible, []
        if parts < most:
            more = min(2 * parts, most)
            ways.append(f"--set accumulate={more} computes a batch in {more} parts")
        with computing_again(self._plain_network()) as count:
            if count and self._may_compute_again:
                ways.append("--set recompute=true holds less of the network")
        smaller = "batch_size" if self.settings.batch_size > 1 else "network or input"
        last = f"take a smaller {smaller}, or end other programs that use it"
        return f"{', '.join(ways)}; or {last}" if ways else last

    # ------------------------------------------------------------------ private

    @property
    def _may_compute_again(self) -> bool:
        """Whether the run has a setting for it."""
        return hasattr(self.settings, "recompute")

    @property
    def _parts_possible(self) -> tuple[int, int]:
        """The most parts that a batch can be cut into, and the fewest cases that a part has, those of all processes."""
        if not self.batch_can_be_cut():
            return 1, 1
        if not batch_norms(self._plain_network()):
            return self._batch_of_process, 1
        # each part has a case in every process, and two cases or more in all
        return max(self.settings.accumulate, self._cases_of_batch // max(2, number_of_processes())), 2

    @property
    def _batch_of_process(self) -> int:
        """Cases that a process is given of a whole batch, at most."""
        return math.ceil(self.settings.batch_size / number_of_processes())

    @property
    def _cases_of_batch(self) -> int:
        """Cases of a whole batch; of fewer than that there is a batch in training only where it is the only one."""
        return min(self.settings.batch_size, len(self.do_split()[0]))


def in_words(size_voxels: tuple[int, ...]) -> str:
    """A size as people write it, "128×128×128 voxels"."""
    return f"{'×'.join(map(str, size_voxels))} voxels"
