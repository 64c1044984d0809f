"""What a graph computes from nothing but its own numbers, computed once.

Swin transformers draw the mask of their attention slice by slice, whatever the scan. The compiler of graphs looks into
every slice for every one that came before, which for a hundred of them has no end.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

DRAWN = torch.ops.aten.slice_scatter.default
_LIKE_AN_INPUT = [torch.ops.aten.new_zeros.default, torch.ops.aten.new_full.default]  # of it they need the type alone


def with_masks_drawn(exported: ExportedProgram, again: Callable[[GraphModule], ExportedProgram]) -> ExportedProgram:
    """The same program with constants in place of what is drawn slice by slice; as it is where nothing is.

    Args:
        exported: of any network.
        again: exports a module as the program was.
    """
    plain = exported.run_decompositions(torch._decomp.get_decompositions(_LIKE_AN_INPUT))
    if not any(node.target is DRAWN for node in plain.graph.nodes):
        return exported
    module = plain.module()
    fold(module)
    return again(module)


def fold(module: GraphModule) -> None:
    """Replace tensors that depend on neither inputs nor weights by what they are."""
    known: dict[Node, Any] = {}
    with torch.no_grad():
        for node in module.graph.nodes:
            if node.op == "call_function" and all(one in known for one in node.all_input_nodes):
                arguments, options = torch.fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
                known[node] = node.target(*arguments, **options)
    for number, (node, value) in enumerate(known.items()):
        if isinstance(value, torch.Tensor) and any(user not in known for user in node.users):
            name = f"constant_{number}"
            module.register_buffer(name, value)
            with module.graph.inserting_before(node):
                constant = module.graph.get_attr(name)
            constant.meta = dict(node.meta)
            node.replace_all_uses_with(constant)
    module.graph.eliminate_dead_code()
    module.recompile()
