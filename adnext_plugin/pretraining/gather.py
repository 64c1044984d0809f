"""What processes that train one network together know of each other's part of a batch."""

import torch
import torch.distributed as dist
from torch.distributed.nn.functional import all_gather


def rows_of_all_processes(rows_nd: torch.Tensor) -> torch.Tensor:
    """The rows of every process, those of the first first; gradients find their way back to the process of each row.

    Every process computes the loss of the whole batch then. What reaches a row is the sum over processes of its
    gradients; as `DistributedDataParallel` divides by their number, that is the gradient of one process alone.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows_nd
    counts = [torch.zeros(1, dtype=torch.int64, device=rows_nd.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(rows_nd)], device=rows_nd.device))
    longest = int(max(counts))
    padded = torch.cat([rows_nd, rows_nd.new_zeros(longest - len(rows_nd), rows_nd.shape[1])])
    parts = all_gather(padded)
    return torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])


def share_of_all_processes(weight: torch.Tensor) -> torch.Tensor:
    """What a process multiplies its loss by so that the mean over processes is the loss of the whole batch.

    Args:
        weight: what the loss of this process is a mean over: a number of cases, or the sum of their weights; a scalar.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return torch.ones_like(weight)
    total = weight.clone()
    dist.all_reduce(total)
    return weight * dist.get_world_size() / total.clamp(min=torch.finfo(total.dtype).tiny)
