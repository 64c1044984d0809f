"""Depthwise 3D convolution by cells in Triton, among visible patches: masked ones are neither stored nor computed.

Tokens are (N, p, p, p, C), patch after patch. Patches are cut into cells of E³ tokens, E being 4, 2 or 1, and tables
say at which token the cells around a cell begin that are visible. Nothing is gathered or scattered, and no product
with what is masked is made. Most programs are one warp, so that which cells it leaves out is no question of others.

Cells of 4³ are taken a plane at a time: a plane of 4² outputs and one of 4² inputs have up to 16² products under a
kernel of 7, for 16 tokens and 49 taps loaded. The gradient of the filter of whole volumes is computed this way, too;
their cells need no table. Smaller cells are taken whole, one pair of them after the other.
"""

import triton
import triton.language as tl

constexpr_function = getattr(triton, "constexpr_function", None) or tl.constexpr_function  # where Triton 3.4 has it


@constexpr_function
def _is_in(place, length):
    return 0 <= place < length


# until Triton 3.6, `max` and `min` of two constants are no constants
@constexpr_function
def _larger(one, other):
    return max(one, other)


@constexpr_function
def _smaller(one, other):
    return min(one, other)


@triton.jit
def _load(ptr, known, C: tl.constexpr, BC: tl.constexpr):
    value = tl.load(ptr) if C % BC == 0 else tl.load(ptr, mask=known, other=0.0)
    return value.to(tl.float32)


@triton.jit
def _begun(bias_ptr, c, known, OUTPUTS: tl.constexpr, BC: tl.constexpr, BIAS: tl.constexpr):
    """The accumulators of so many outputs, which begin with the bias."""
    start = tl.zeros((BC,), tl.float32)
    if BIAS:
        start += tl.load(bias_ptr + c, mask=known, other=0.0).to(tl.float32)
    acc = ()
    for _ in tl.static_range(OUTPUTS):
        acc = acc + (start,)
    return acc


@triton.jit
def convolve_planes(
    x_ptr,
    filter_ptr,  # (K, K, K, C)
    bias_ptr,
    y_ptr,
    around_ptr,  # (cells, 3, 3, 3): first token of the cells around each along z, y, x, -1 where none is visible
    S: tl.constexpr,  # p
    C: tl.constexpr,
    K: tl.constexpr,
    E: tl.constexpr,  # not less than K // 2
    BC: tl.constexpr,
    FLIP: tl.constexpr,
    BIAS: tl.constexpr,
):
    P: tl.constexpr = K // 2
    zo = tl.program_id(0) % E
    around = around_ptr + tl.program_id(0) // E * 27
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    acc = _begun(bias_ptr, c, known, E * E, BC, BIAS)
    for oy in tl.static_range(3):
        for ox in tl.static_range(3):
            for oz in range(3):
                cell = tl.load(around + ((oz * 3 + oy) * 3 + ox))
                before = zo - P - (oz - 1) * E  # the plane of that cell that the first tap sees
                first = tl.maximum(before, 0)
                last = tl.where(cell >= 0, tl.minimum(before + K, E), first)
                for zi in range(first, last):
                    tokens = _plane(x_ptr + ((cell + zi * (S * S)) * C + c), known, S, C, P, E, oy - 1, ox - 1, BC)
                    acc = _convolved(acc, tokens, filter_ptr, zi - before, c, known, C, K, E, oy - 1, ox - 1, BC, FLIP)
    own = tl.load(around + 13) + zo * (S * S)
    for y in tl.static_range(E):
        for x in tl.static_range(E):
            at = y_ptr + ((own + (y * S + x)) * C + c)
            tl.store(at, acc[y * E + x].to(y_ptr.dtype.element_ty), mask=known)


@triton.jit
def _convolved(
    acc,
    tokens,
    filter_ptr,
    dz,
    c,
    known,
    C: tl.constexpr,
    K: tl.constexpr,
    E: tl.constexpr,
    OY: tl.constexpr,
    OX: tl.constexpr,
    BC: tl.constexpr,
    FLIP: tl.constexpr,
):
    """The accumulators of a plane with what a plane of the cell at (OY, OX) adds to them."""
    P: tl.constexpr = K // 2
    first_tap = (K - dz) * (K * K) - 1 if FLIP else dz * (K * K)
    taps = filter_ptr + (first_tap * C + c)
    for dy in tl.static_range(_larger(0, OY * E + P - E + 1), _smaller(K, OY * E + P + E)):
        row = ()
        for dx in tl.static_range(K):
            if not _is_in(dx - (OX * E + P - E + 1), 2 * E - 1):
                row = row + (0.0,)  # no two tokens are so far from each other
            elif FLIP:
                row = row + (_load(taps - (dy * K + dx) * C, known, C, BC),)
            else:
                row = row + (_load(taps + (dy * K + dx) * C, known, C, BC),)
        new = ()
        for y in tl.static_range(E):
            for x in tl.static_range(E):
                total = acc[y * E + x]
                if _is_in(y + dy - P - OY * E, E):
                    for dx in tl.static_range(_larger(0, OX * E + P - x), _smaller(K, OX * E + P - x + E)):
                        total = tl.fma(tokens[(y + dy - P - OY * E) * E + x + dx - P - OX * E], row[dx], total)
                new = new + (total,)
        acc = new
    return acc


@triton.jit
def weight_gradient_of_planes(
    x_ptr,
    grad_ptr,
    partial_ptr,  # (chunks, K³ + 1, C); the last tap is the bias's
    around_ptr,  # as above; not read where NZ says that there are whole volumes
    cells,
    chunks,
    SZ: tl.constexpr,  # tokens from a plane to the next
    SY: tl.constexpr,  # and from a row to the next
    NZ: tl.constexpr,  # cells along the axes of a volume, 0 for patches
    NY: tl.constexpr,
    NX: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    E: tl.constexpr,
    BC: tl.constexpr,
):
    P: tl.constexpr = K // 2
    chunk = tl.program_id(0)
    dz = tl.program_id(1)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    known = c < C
    zero = tl.zeros((BC,), tl.float32)
    total = zero
    acc = ()
    for _ in tl.static_range(K * K):
        acc = acc + (zero,)
    per = (cells + chunks - 1) // chunks
    first = tl.minimum(chunk * per, cells)
    for plane in range(first * E, tl.minimum(chunk * per + per, cells) * E):
        cell = plane // E
        zo = plane % E
        z = zo + dz - P
        oz = (z >= 0).to(tl.int32) + (z >= E).to(tl.int32)
        zi = z - (oz - 1) * E
        own = _first_token(around_ptr, cell, 1, 1, 1, SZ, SY, NZ, NY, NX, E)
        grad = _plane(grad_ptr + ((own + zo * SZ) * C + c), known, SY, C, P, E, 0, 0, BC)
        of_plane = zero
        for i in tl.static_range(E * E):
            of_plane += grad[i]
        total += of_plane
        for oy in tl.static_range(3):
            for ox in tl.static_range(3):
                other = _first_token(around_ptr, cell, oz, oy, ox, SZ, SY, NZ, NY, NX, E)
                if other >= 0:
                    tokens = _plane(x_ptr + ((other + zi * SZ) * C + c), known, SY, C, P, E, oy - 1, ox - 1, BC)
                    acc = _correlated(acc, tokens, grad, K, E, oy - 1, ox - 1)
    to = partial_ptr + chunk * ((K * K * K + 1) * C) + c
    for tap in tl.static_range(K * K):
        tl.store(to + (dz * (K * K) + tap) * C, acc[tap], mask=known)
    if dz == P:
        tl.store(to + (K * K * K) * C, total, mask=known)


@triton.jit
def _first_token(
    around_ptr,
    cell,
    oz,
    oy,
    ox,
    SZ: tl.constexpr,
    SY: tl.constexpr,
    NZ: tl.constexpr,
    NY: tl.constexpr,
    NX: tl.constexpr,
    E: tl.constexpr,
):
    """Where the cell next to one begins, at 0 to 2 along each axis of which 1 is its own place; -1 if there is none."""
    if NZ == 0:
        first = tl.load(around_ptr + (cell * 27 + (oz * 3 + oy) * 3 + ox))
    else:
        z = cell // (NX * NY) % NZ + oz - 1
        y = cell // NX % NY + oy - 1
        x = cell % NX + ox - 1
        inside = (z >= 0) & (z < NZ) & (y >= 0) & (y < NY) & (x >= 0) & (x < NX)
        first = cell // (NX * NY * NZ) * (SZ * NZ * E) + (z * SZ + y * SY + x) * E
        first = tl.where(inside, first, -1)
    return first


@triton.jit
def _correlated(acc, tokens, grad, K: tl.constexpr, E: tl.constexpr, OY: tl.constexpr, OX: tl.constexpr):
    """The taps' sums with the products of a plane's gradients and a plane of the cell at (OY, OX)."""
    P: tl.constexpr = K // 2
    new = ()
    for dy in tl.static_range(K):
        for dx in tl.static_range(K):
            tap = acc[dy * K + dx]
            for y in tl.static_range(_larger(0, OY * E + P - dy), _smaller(E, OY * E + P - dy + E)):
                for x in tl.static_range(_larger(0, OX * E + P - dx), _smaller(E, OX * E + P - dx + E)):
                    tap = tl.fma(tokens[(y + dy - P - OY * E) * E + x + dx - P - OX * E], grad[y * E + x], tap)
            new = new + (tap,)
    return new


@triton.jit
def _plane(
    ptr,
    known,
    SY: tl.constexpr,
    C: tl.constexpr,
    P: tl.constexpr,
    E: tl.constexpr,
    OY: tl.constexpr,
    OX: tl.constexpr,
    BC: tl.constexpr,
):
    """E² tokens in float32, of which those that a cell away by (OY, OX) does not reach count as zero unread."""
    found = ()
    for y in tl.static_range(E):
        for x in tl.static_range(E):
            if _is_in(y + OY * E + P, E + 2 * P) and _is_in(x + OX * E + P, E + 2 * P):
                found = found + (_load(ptr + (y * SY + x) * C, known, C, BC),)
            else:
                found = found + (tl.zeros(known.shape, tl.float32),)
    return found


@triton.jit
def convolve_cells(
    x_ptr,
    filter_ptr,  # (K, K, K, C)
    bias_ptr,
    y_ptr,
    own_ptr,  # (cells,): the first token of each
    near_ptr,  # (2, cells, W³): first tokens of the visible cells around it, then where each of them lies
    count_ptr,  # (cells,): how many these are
    cells,
    S: tl.constexpr,  # p
    C: tl.constexpr,
    K: tl.constexpr,
    E: tl.constexpr,
    W: tl.constexpr,  # cells along an axis that the kernel reaches
    BC: tl.constexpr,
    FLIP: tl.constexpr,
    BIAS: tl.constexpr,
):
    cell = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    acc = _begun(bias_ptr, c, known, E * E * E, BC, BIAS)
    near = near_ptr + cell * (W * W * W)
    for i in range(tl.load(count_ptr + cell)):
        other = tl.load(near + i)
        where = tl.load(near + cells * (W * W * W) + i)
        tokens = _cell_where(x_ptr + (other * C + c), known, S, C, E)
        # the tap that joins tokens of the same place in both cells
        dz = (where // (W * W) - W // 2) * E + K // 2
        dy = (where // W % W - W // 2) * E + K // 2
        dx = (where % W - W // 2) * E + K // 2
        tap = (dz * K + dy) * K + dx
        if FLIP:
            tap = (K * K * K - 1) - tap
        taps = filter_ptr + (tap * C + c)
        for sz in tl.static_range(1 - E, E):
            for sy in tl.static_range(1 - E, E):
                for sx in tl.static_range(1 - E, E):
                    in_z = (dz + sz >= 0) & (dz + sz < K)
                    in_y = (dy + sy >= 0) & (dy + sy < K)
                    in_x = (dx + sx >= 0) & (dx + sx < K)
                    weight = tl.load(
                        taps + ((sz * K + sy) * K + sx) * (-C if FLIP else C),
                        mask=known & (in_z & in_y & in_x),
                        other=0.0,
                    )
                    new = ()
                    for z in tl.static_range(E):
                        for y in tl.static_range(E):
                            for x in tl.static_range(E):
                                total = acc[(z * E + y) * E + x]
                                if _is_in(z + sz, E) and _is_in(y + sy, E) and _is_in(x + sx, E):
                                    total = tl.fma(tokens[((z + sz) * E + y + sy) * E + x + sx], weight, total)
                                new = new + (total,)
                    acc = new
    own = tl.load(own_ptr + cell)
    for z in tl.static_range(E):
        for y in tl.static_range(E):
            for x in tl.static_range(E):
                at = y_ptr + ((own + ((z * S + y) * S + x)) * C + c)
                tl.store(at, acc[(z * E + y) * E + x].to(y_ptr.dtype.element_ty), mask=known)


@triton.jit
def weight_gradient_of_cells(
    x_ptr,
    grad_ptr,
    partial_ptr,  # (chunks, W³, (2E - 1)³, C): for each place of another cell, and for each shift between tokens
    pairs_ptr,  # (2, W³, cells): first tokens of cells, and of the visible cell at each place
    count_ptr,  # (W³,): how many pairs there are
    cells,
    S: tl.constexpr,
    C: tl.constexpr,
    E: tl.constexpr,
    R: tl.constexpr,  # pairs at a time, a warp each
    BC: tl.constexpr,
):
    D: tl.constexpr = 2 * E - 1
    chunk, chunks = tl.program_id(0), tl.num_programs(0)
    place, places = tl.program_id(1), tl.num_programs(1)
    c = tl.program_id(2) * BC + tl.arange(0, BC)[None, :]
    known = c < C
    acc = ()
    for _ in tl.static_range(D * D * D):
        acc = acc + (tl.zeros((R, BC), tl.float32),)
    count = tl.load(count_ptr + place)
    pairs = pairs_ptr + place * cells
    for first in range(chunk * R, count, chunks * R):
        i = first + tl.arange(0, R)[:, None]
        own = tl.load(pairs + i, mask=i < count, other=0)
        other = tl.load(pairs + places * cells + i, mask=i < count, other=0)
        grad = _cell_where(grad_ptr + (own * C + c), known & (i < count), S, C, E)
        tokens = _cell_where(x_ptr + (other * C + c), known & (i < count), S, C, E)
        new = ()
        for sz in tl.static_range(1 - E, E):
            for sy in tl.static_range(1 - E, E):
                for sx in tl.static_range(1 - E, E):
                    tap = acc[((sz + E - 1) * D + sy + E - 1) * D + sx + E - 1]
                    for z in tl.static_range(_larger(0, -sz), _smaller(E, E - sz)):
                        for y in tl.static_range(_larger(0, -sy), _smaller(E, E - sy)):
                            for x in tl.static_range(_larger(0, -sx), _smaller(E, E - sx)):
                                seen = tokens[((z + sz) * E + y + sy) * E + x + sx]
                                tap = tl.fma(seen, grad[(z * E + y) * E + x], tap)
                    new = new + (tap,)
        acc = new
    to = partial_ptr + (chunk * places + place) * (D * D * D * C) + c
    for shift in tl.static_range(D * D * D):
        tl.store(to + shift * C, tl.sum(acc[shift], axis=0)[None, :], mask=known)


@triton.jit
def add_up_cells(
    partial_ptr,  # as `weight_gradient_of_cells` leaves it
    taps_ptr,  # (K³, C)
    chunks,
    C: tl.constexpr,
    K: tl.constexpr,
    E: tl.constexpr,
    W: tl.constexpr,
    BC: tl.constexpr,
):
    D: tl.constexpr = 2 * E - 1
    tap = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    known = c < C
    # a distance is one of two: E places and a shift of 0 or more, or a place more and a negative shift
    dz = tap // (K * K) - K // 2 + W * E
    dy = tap // K % K - K // 2 + W * E
    dx = tap % K - K // 2 + W * E
    total = tl.zeros((BC,), tl.float32)
    for chunk in range(chunks):
        for z in tl.static_range(2):
            for y in tl.static_range(2):
                for x in tl.static_range(2):
                    place = ((dz // E - W + z + W // 2) * W + dy // E - W + y + W // 2) * W + dx // E - W + x + W // 2
                    shift = ((dz % E - z * E + E - 1) * D + dy % E - y * E + E - 1) * D + dx % E - x * E + E - 1
                    there = (dz % E >= z) & (dy % E >= y) & (dx % E >= x)
                    at = partial_ptr + (((chunk * (W * W * W) + place) * (D * D * D) + shift) * C + c)
                    total += tl.load(at, mask=known & there, other=0.0)
    tl.store(taps_ptr + (tap * C + c), total, mask=known)


@triton.jit
def _cell_where(ptr, mask, S: tl.constexpr, C: tl.constexpr, E: tl.constexpr):
    """E³ tokens in float32, 0 where not `mask`."""
    found = ()
    for z in tl.static_range(E):
        for y in tl.static_range(E):
            for x in tl.static_range(E):
                at = ptr + ((z * S + y) * S + x) * C
                found = found + (tl.load(at, mask=mask, other=0.0).to(tl.float32),)
    return found
