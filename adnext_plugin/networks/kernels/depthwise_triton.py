"""Depthwise 3D convolution of channels-last tokens (B, Z, Y, X, C) in Triton: stride 1, "same" size, sums in float32.

A program takes R rows of tokens along X, one for each warp, and BC channels of them, and keeps the results of TX (x TZ)
tokens in registers. Whatever a row at (z + dz, y + dy) holds is read once and serves all taps along X. What lies
outside of the volume costs nothing along Z and X, where the loops leave it out; along Y the filter is set to zero, so
that no load of tokens needs a mask. Shapes are constants, so that addresses are immediates.

The order in which an output's products are added is that of the taps, whatever the tile: results do not depend on it.
The gradient of the input is the same convolution with the filter reversed (FLIP). The gradient of the filter is a
partial sum per program, added up afterwards in a fixed order.
"""

import triton
import triton.language as tl


@triton.jit
def convolve(
    x_ptr,
    filter_ptr,  # (K, K, K, C)
    bias_ptr,
    y_ptr,
    Z: tl.constexpr,
    Y: tl.constexpr,
    X: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    TZ: tl.constexpr,
    TX: tl.constexpr,
    R: tl.constexpr,
    BC: tl.constexpr,
    SCHEDULE: tl.constexpr,  # 0: a loop; 1: unrolled along Y; 2: each row is loaded while the one before is multiplied
    FLIP: tl.constexpr,
    BIAS: tl.constexpr,
):
    P: tl.constexpr = K // 2
    NX: tl.constexpr = (X + TX - 1) // TX
    NY: tl.constexpr = (Y + R - 1) // R
    NZ: tl.constexpr = (Z + TZ - 1) // TZ
    tile = tl.program_id(0)
    x0 = (tile % NX) * TX
    y0 = (tile // NX % NY) * R
    z0 = (tile // (NX * NY) % NZ) * TZ
    b = tile // (NX * NY * NZ)
    ys = y0 + tl.arange(0, R)[:, None]
    c = tl.program_id(1) * BC + tl.arange(0, BC)[None, :]
    known = c < C
    start = tl.zeros((R, BC), tl.float32)
    if BIAS:
        start += tl.load(bias_ptr + c, mask=known, other=0.0).to(tl.float32)
    acc = ()
    for _ in tl.static_range(TZ * TX):
        acc = acc + (start,)
    first = tl.maximum(z0 - P, 0)
    last = tl.minimum(z0 + TZ + P, Z)
    if SCHEDULE == 2:
        steps = (last - first) * K
        row = _loaded(x_ptr, filter_ptr, b, first, z0, ys, 0, x0, c, known, Z, Y, X, C, K, TZ, TX, BC, FLIP)
        for step in range(steps):
            after = tl.minimum(step + 1, steps - 1)
            ahead = _loaded(
                x_ptr, filter_ptr, b, first + after // K, z0, ys, after % K, x0, c, known,
                Z, Y, X, C, K, TZ, TX, BC, FLIP,
            )  # fmt: skip
            acc = _added(acc, row, X, K, TZ, TX)
            row = ahead
    else:
        for zi in range(first, last):
            if SCHEDULE == 1:
                for dy in tl.static_range(K):
                    row = _loaded(x_ptr, filter_ptr, b, zi, z0, ys, dy, x0, c, known, Z, Y, X, C, K, TZ, TX, BC, FLIP)
                    acc = _added(acc, row, X, K, TZ, TX)
            else:
                for dy in range(K):
                    row = _loaded(x_ptr, filter_ptr, b, zi, z0, ys, dy, x0, c, known, Z, Y, X, C, K, TZ, TX, BC, FLIP)
                    acc = _added(acc, row, X, K, TZ, TX)
    for tz in tl.static_range(TZ):
        for tx in tl.static_range(TX):
            row = ((b * Z + z0 + tz) * Y + ys) * X + x0 + tx
            inside = (ys < Y) & (z0 + tz < Z) & (x0 + tx < X) & known
            tl.store(y_ptr + (row * C + c), acc[tz * TX + tx].to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _loaded(
    x_ptr,
    filter_ptr,
    b,
    zi,
    z0,
    ys,
    dy,
    x0,
    c,
    known,
    Z: tl.constexpr,
    Y: tl.constexpr,
    X: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    TZ: tl.constexpr,
    TX: tl.constexpr,
    BC: tl.constexpr,
    FLIP: tl.constexpr,
):
    """The TX + K - 1 tokens of the rows at (zi, ys + dy - P), then the K taps that each of TZ outputs has for them."""
    P: tl.constexpr = K // 2
    NX: tl.constexpr = (X + TX - 1) // TX
    yi = ys + dy - P
    inside = (yi >= 0) & (yi < Y) & known
    row = ((b * Z + zi) * Y + tl.minimum(tl.maximum(yi, 0), Y - 1)) * X + x0
    found = _row(x_ptr + (row * C + c), x0, known, X, C, TX + K - 1, P, NX, BC)
    for tz in tl.static_range(TZ):
        dz = zi - z0 - tz + P
        usable = inside
        if TZ > 1:
            usable = inside & (dz >= 0) & (dz < K)
        found = found + _taps(filter_ptr, dz, dy, c, usable, C, K, FLIP)
    return found


@triton.jit
def _added(acc, row, X: tl.constexpr, K: tl.constexpr, TZ: tl.constexpr, TX: tl.constexpr):
    """The accumulators with what a row adds to them."""
    P: tl.constexpr = K // 2
    NX: tl.constexpr = (X + TX - 1) // TX
    tokens = ()
    for i in tl.static_range(TX + K - 1):
        tokens = tokens + (row[i].to(tl.float32),)
    new = ()
    for tz in tl.static_range(TZ):
        for tx in tl.static_range(TX):
            total = acc[tz * TX + tx]
            for dx in tl.static_range(K):
                if NX > 1 or (tx + dx - P >= 0 and tx + dx - P < X):
                    total = tl.fma(tokens[tx + dx], row[TX + K - 1 + tz * K + dx], total)
            new = new + (total,)
    return new


@triton.jit
def weight_gradient(
    x_ptr,
    grad_ptr,
    partial_ptr,  # (chunks or, if not MERGE, chunks · R, K³ + 1, C); the last tap is the bias's
    batch,
    chunks,
    Z: tl.constexpr,
    Y: tl.constexpr,
    X: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    KY: tl.constexpr,  # rows of the filter that a program is for
    TX: tl.constexpr,
    R: tl.constexpr,
    BC: tl.constexpr,
    MERGE: tl.constexpr,
):
    P: tl.constexpr = K // 2
    NX: tl.constexpr = (X + TX - 1) // TX
    NY: tl.constexpr = (Y + R - 1) // R
    GROUPS: tl.constexpr = (K + KY - 1) // KY
    chunk = tl.program_id(0)
    dz = tl.program_id(1) // GROUPS
    dy0 = tl.program_id(1) % GROUPS * KY
    c = tl.program_id(2) * BC + tl.arange(0, BC)[None, :]
    known = c < C
    first = tl.maximum(P - dz, 0)
    planes = Z - tl.maximum(P - dz, 0) - tl.maximum(dz - P, 0)  # that see something through this slice of the filter
    tiles = batch * tl.maximum(planes, 0) * (NY * NX)
    per = (tiles + chunks - 1) // chunks
    zero = tl.zeros((R, BC), tl.float32)
    total = zero
    acc = ()
    for _ in tl.static_range(KY * K):
        acc = acc + (zero,)
    for tile in range(chunk * per, tl.minimum(chunk * per + per, tiles)):
        x0 = (tile % NX) * TX
        ys = (tile // NX % NY) * R + tl.arange(0, R)[:, None]
        z = first + tile // (NX * NY) % planes
        b = tile // (NX * NY * planes)
        there = (ys < Y) & known
        row = ((b * Z + z) * Y + tl.minimum(ys, Y - 1)) * X + x0
        g = _row_where(grad_ptr + (row * C + c), x0, there, X, C, TX, 0, NX)
        for tx in tl.static_range(TX):
            total += g[tx]
        new = ()
        for ky in tl.static_range(KY):
            yi = ys + dy0 + ky - P
            inside = (yi >= 0) & (yi < Y) & known
            row = ((b * Z + z + dz - P) * Y + tl.minimum(tl.maximum(yi, 0), Y - 1)) * X + x0
            v = _row_where(x_ptr + (row * C + c), x0, inside, X, C, TX + K - 1, P, NX)
            for dx in tl.static_range(K):
                tap = acc[ky * K + dx]
                for tx in tl.static_range(TX):
                    if NX > 1 or (tx + dx - P >= 0 and tx + dx - P < X):
                        tap = tl.fma(v[tx + dx], g[tx], tap)
                new = new + (tap,)
        acc = new
    if MERGE:
        to = partial_ptr + chunk * ((K * K * K + 1) * C) + c
    else:
        to = partial_ptr + (chunk * R + tl.arange(0, R)[:, None]) * ((K * K * K + 1) * C) + c
    for ky in tl.static_range(KY):
        stored = known & (dy0 + ky < K)  # the last group may have fewer rows
        for dx in tl.static_range(K):
            place = to + ((dz * K + dy0 + ky) * K + dx) * C
            if MERGE:
                tl.store(place, tl.sum(acc[ky * K + dx], axis=0)[None, :], mask=stored)
            else:
                tl.store(place, acc[ky * K + dx], mask=stored)
    if (dz == P) & (dy0 == 0):
        if MERGE:
            tl.store(to + (K * K * K) * C, tl.sum(total, axis=0)[None, :], mask=known)
        else:
            tl.store(to + (K * K * K) * C, total, mask=known)


@triton.jit
def _row(
    ptr,
    x0,
    known,
    X: tl.constexpr,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    P: tl.constexpr,
    NX: tl.constexpr,
    BC: tl.constexpr,
):
    """WIDTH tokens from P before `ptr` on; 0 outside of the volume."""
    found = ()
    for i in tl.static_range(WIDTH):
        if NX > 1:
            v = tl.load(ptr + (i - P) * C, mask=known & (x0 + i - P >= 0) & (x0 + i - P < X), other=0.0)
        elif i - P < 0 or i - P >= X:
            v = tl.zeros(ptr.shape, ptr.dtype.element_ty)  # no tap looks at it
        elif C % BC == 0:
            v = tl.load(ptr + (i - P) * C)
        else:
            v = tl.load(ptr + (i - P) * C, mask=known, other=0.0)
        found = found + (v,)
    return found


@triton.jit
def _row_where(
    ptr,
    x0,
    mask,
    X: tl.constexpr,
    C: tl.constexpr,
    WIDTH: tl.constexpr,
    P: tl.constexpr,
    NX: tl.constexpr,
):
    """Like `_row`; 0 also where `mask` is not."""
    found = ()
    for i in tl.static_range(WIDTH):
        if NX > 1:
            v = tl.load(ptr + (i - P) * C, mask=mask & (x0 + i - P >= 0) & (x0 + i - P < X), other=0.0)
        elif i - P < 0 or i - P >= X:
            v = tl.zeros(ptr.shape, ptr.dtype.element_ty)
        else:
            v = tl.load(ptr + (i - P) * C, mask=mask, other=0.0)
        found = found + (v.to(tl.float32),)
    return found


@triton.jit
def _taps(filter_ptr, dz, dy, c, mask, C: tl.constexpr, K: tl.constexpr, FLIP: tl.constexpr):
    """The K taps of one row of the filter, 0 where not `mask`."""
    found = ()
    for dx in tl.static_range(K):
        tap = (dz * K + dy) * K + dx
        if FLIP:
            tap = (K * K * K - 1) - tap
        place = tl.broadcast_to(filter_ptr + (tap * C + c), mask.shape)  # Triton 3.4 does not do so by itself
        found = found + (tl.load(place, mask=mask, other=0.0),)
    return found
