"""What is drawn slice by slice in a graph is a constant in the program."""

import torch
from torch import nn

from adnext_plugin.deployment.constants import DRAWN, with_masks_drawn


class Masked(nn.Module):
    """Adds a mask that is drawn like those of shifted windows, and a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = x.new_zeros((4, 4))
        for number, (rows, columns) in enumerate([(slice(0, 2), slice(1, 3)), (slice(1, 4), slice(2, 4))], start=1):
            mask[rows, columns] = number
        return x * self.weight + (mask - mask.t()).masked_fill(mask == 2, -100.0)


def _exported(module: nn.Module) -> torch.export.ExportedProgram:
    batch = {0: torch.export.Dim("batch", min=1, max=8)}
    return torch.export.export(module, (torch.ones(2, 4, 4),), dynamic_shapes=(batch,), strict=False)


def test_a_mask_drawn_slice_by_slice_is_a_constant_and_answers_and_weights_stay() -> None:
    module, scans = Masked(), torch.randn(3, 4, 4)
    exported = _exported(module)
    assert any(node.target is DRAWN for node in exported.run_decompositions().graph.nodes)
    folded = with_masks_drawn(exported, _exported)
    assert not any(node.target is DRAWN for node in folded.run_decompositions().graph.nodes)
    assert torch.equal(folded.module()(scans), module(scans))
    assert [value.shape for value in folded.parameters()] == [module.weight.shape]


def test_a_graph_without_such_masks_is_left_alone() -> None:
    exported = _exported(nn.Linear(4, 4))
    assert with_masks_drawn(exported, _exported) is exported
