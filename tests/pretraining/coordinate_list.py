"""A sparse AD-NeXt encoder spelt out over a list of coordinates, for one sample: slow, and like nothing else."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from adnext_plugin.networks.families.adnext import ADNeXtEncoder

Coordinates = list[tuple[int, int, int]]


def encode(encoder: ADNeXtEncoder, image_czyx: torch.Tensor, visible_patches: set[tuple[int, int, int]], patch: int):
    """Features of the last stage by coordinate."""
    sites, rows = [], []
    weight, bias = encoder.stem.conv.weight, encoder.stem.conv.bias
    size = image_czyx.shape[1:]
    for z in range(size[0] // 4):
        for y in range(size[1] // 4):
            for x in range(size[2] // 4):
                if (z * 4 // patch, y * 4 // patch, x * 4 // patch) in visible_patches:
                    cube = image_czyx[:, 4 * z : 4 * z + 4, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4]
                    sites.append((z, y, x))
                    rows.append(cube.flatten())
    values = torch.stack(rows) @ weight.flatten(1).T + bias
    values = _layer_norm(values, encoder.stem.norm)
    for number, stage in enumerate(encoder.stages):
        if number:
            sites, values = _transition(encoder.transitions[number - 1], sites, values)
        neighbours = _neighbours(sites, stage[0].depthwise.conv.kernel_size[0])
        for block in stage:
            values = values + _block(block, values, neighbours)
    return sites, values


def _layer_norm(values: torch.Tensor, norm) -> torch.Tensor:
    centred = values - values.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt() * norm.weight + norm.bias


def _neighbours(sites: Coordinates, kernel: int) -> list[tuple[tuple[int, int, int], list[int], list[int]]]:
    """For every tap of the kernel: which sites it is read at, and from which."""
    index, reach = {site: row for row, site in enumerate(sites)}, kernel // 2
    taps = []
    for dz in range(kernel):
        for dy in range(kernel):
            for dx in range(kernel):
                pairs = [
                    (row, index[(z + dz - reach, y + dy - reach, x + dx - reach)])
                    for (z, y, x), row in index.items()
                    if (z + dz - reach, y + dy - reach, x + dx - reach) in index
                ]
                if pairs:
                    taps.append(((dz, dy, dx), *map(list, zip(*pairs, strict=True))))
    return taps


def _block(block, values: torch.Tensor, taps: Sequence) -> torch.Tensor:
    convolved = block.depthwise.conv.bias.repeat(len(values), 1)
    for (dz, dy, dx), at, source in taps:
        term = values[source] * block.depthwise.conv.weight[:, 0, dz, dy, dx]
        convolved = convolved.index_add(0, torch.tensor(at), term)
    hidden = F.gelu(_layer_norm(convolved, block.norm) @ block.expand.weight.T + block.expand.bias)
    response = hidden.square().sum(0).sqrt()
    response = response / (response.mean() + 1e-6)
    grn = block.activation.norm
    hidden = grn.gamma * hidden * response + grn.beta + hidden
    return hidden @ block.project.weight.T + block.project.bias


def _transition(transition, sites: Coordinates, values: torch.Tensor) -> tuple[Coordinates, torch.Tensor]:
    values = _layer_norm(values, transition.norm)
    groups: dict[tuple[int, int, int], list[int]] = {}
    for row, (z, y, x) in enumerate(sites):
        groups.setdefault((z // 2, y // 2, x // 2), []).append(row)
    pooled = torch.stack([values[rows].mean(0) for rows in groups.values()])  # over those present
    return list(groups), pooled @ transition.project.weight.T + transition.project.bias
