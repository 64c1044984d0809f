"""Depthwise 3D convolution among visible patches in Triton: masked patches are neither stored nor computed.

Tokens are (N, p, p, p, C), patch after patch. A table says which patch lies next to each, so that nothing is gathered
or scattered. A program takes R rows of p tokens along X and BC channels; p is at least half of the filter, so that a
row sees three patches at most.
"""

import triton
import triton.language as tl

from adnext_plugin.networks.kernels.depthwise_triton import _added, _taps


@triton.jit
def convolve_visible(
    x_ptr,
    filter_ptr,  # (K, K, K, C)
    bias_ptr,
    y_ptr,
    neighbours_ptr,  # (N, 3, 3, 3), -1 where there is none
    rows,  # N p²
    S: tl.constexpr,  # p
    C: tl.constexpr,
    K: tl.constexpr,
    R: tl.constexpr,
    BC: tl.constexpr,
    FLIP: tl.constexpr,
    BIAS: tl.constexpr,
):
    P: tl.constexpr = K // 2
    row = tl.program_id(0) * R + tl.arange(0, R)[:, None]
    c = tl.program_id(1) * BC + tl.arange(0, BC)[None, :]
    known = c < C
    there = row < rows
    patch = row // (S * S)
    z = row // S % S
    y = row % S
    start = tl.zeros((R, BC), tl.float32)
    if BIAS:
        start += tl.load(bias_ptr + c, mask=known, other=0.0).to(tl.float32)
    acc = ()
    for _ in tl.static_range(S):
        acc = acc + (start,)
    for step in range(K * K):
        dz = step // K
        dy = step % K
        found = _row_of_patches(x_ptr, neighbours_ptr, patch, z + dz - P, y + dy - P, there, c, known, S, C, P)
        found = found + _taps(filter_ptr, dz, dy, c, there & known, C, K, FLIP)
        acc = _added(acc, found, S + 2 * P, K, 1, S)
    for i in tl.static_range(S):
        tl.store(y_ptr + ((row * S + i) * C + c), acc[i].to(y_ptr.dtype.element_ty), mask=there & known)


@triton.jit
def weight_gradient_visible(
    x_ptr,
    grad_ptr,
    partial_ptr,  # (chunks · R, K³ + 1, C); the last tap is the bias's
    neighbours_ptr,
    rows,
    chunks,
    S: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    KY: tl.constexpr,  # rows of the filter that a program is for
    R: tl.constexpr,
    BC: tl.constexpr,
):
    P: tl.constexpr = K // 2
    GROUPS: tl.constexpr = (K + KY - 1) // KY
    chunk = tl.program_id(0)
    dz = tl.program_id(1) // GROUPS
    dy0 = tl.program_id(1) % GROUPS * KY
    c = tl.program_id(2) * BC + tl.arange(0, BC)[None, :]
    known = c < C
    zero = tl.zeros((R, BC), tl.float32)
    total = zero
    acc = ()
    for _ in tl.static_range(KY * K):
        acc = acc + (zero,)
    tiles = (rows + R - 1) // R
    per = (tiles + chunks - 1) // chunks
    for tile in range(chunk * per, tl.minimum(chunk * per + per, tiles)):
        row = tile * R + tl.arange(0, R)[:, None]
        there = row < rows
        patch = row // (S * S)
        z = row // S % S
        y = row % S
        g = ()
        for i in tl.static_range(S):
            value = tl.load(grad_ptr + ((row * S + i) * C + c), mask=there & known, other=0.0).to(tl.float32)
            g = g + (value,)
            total += value
        new = ()
        for ky in tl.static_range(KY):
            v = _row_of_patches(
                x_ptr, neighbours_ptr, patch, z + dz - P, y + dy0 + ky - P, there & (dy0 + ky < K), c, known, S, C, P
            )
            for dx in tl.static_range(K):
                tap = acc[ky * K + dx]
                for i in tl.static_range(S):
                    tap = tl.fma(v[i + dx].to(tl.float32), g[i], tap)
                new = new + (tap,)
        acc = new
    to = partial_ptr + (chunk * R + tl.arange(0, R)[:, None]) * ((K * K * K + 1) * C) + c
    for ky in tl.static_range(KY):
        stored = known & (dy0 + ky < K)  # the last group may have fewer rows
        for dx in tl.static_range(K):
            tl.store(to + ((dz * K + dy0 + ky) * K + dx) * C, acc[ky * K + dx], mask=stored)
    if (dz == P) & (dy0 == 0):
        tl.store(to + (K * K * K) * C, total, mask=known)


@triton.jit
def _row_of_patches(
    x_ptr, neighbours_ptr, patch, z, y, there, c, known, S: tl.constexpr, C: tl.constexpr, P: tl.constexpr
):
    """The S + 2P tokens of the row at (z, y) of a patch and at its ends; 0 where nothing is visible."""
    # where the row lies: in the patch before, this one or the one after, along either axis
    oz = (z >= 0).to(tl.int32) + (z >= S).to(tl.int32)
    oy = (y >= 0).to(tl.int32) + (y >= S).to(tl.int32)
    zi = z - (oz - 1) * S
    yi = y - (oy - 1) * S
    found = ()
    for ox in tl.static_range(3):
        other = tl.load(neighbours_ptr + (((patch * 3 + oz) * 3 + oy) * 3 + ox), mask=there, other=-1)
        is_visible = (other >= 0) & known
        at = x_ptr + ((((other * S + zi) * S + yi) * S) * C + c)
        if ox == 0:
            for i in tl.static_range(P):
                found = found + (tl.load(at + (S - P + i) * C, mask=is_visible, other=0.0),)
        elif ox == 1:
            for i in tl.static_range(S):
                found = found + (tl.load(at + i * C, mask=is_visible, other=0.0),)
        else:
            for i in tl.static_range(P):
                found = found + (tl.load(at + i * C, mask=is_visible, other=0.0),)
    return found
