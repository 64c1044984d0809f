"""GELU followed by global response norm in Triton: sums over space in float32, then one pass over the tokens.

With a = gelu(x), G = |a| over a sample's tokens, N = G / (mean G + eps), s = 1 + gamma N: out = beta + a s. What is
kept for the gradient is x and G. Tokens are rows (n, C); a sample is a range of rows, from `first` on. Sums are made
in pieces of a fixed size and added up in a fixed order, so that results repeat to the bit.
"""

import triton
import triton.language as tl


@triton.jit
def squares(
    x_ptr,
    offsets_ptr,
    partial_ptr,  # (samples, chunks, C)
    tokens,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    BC: tl.constexpr,
    RAGGED: tl.constexpr,
):
    sample, chunk, chunks = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    first, last = _rows_of(sample, chunk, chunks, offsets_ptr, tokens, RAGGED)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    total = tl.zeros((ROWS, BC), tl.float32)
    for row in range(first, last, ROWS):
        rows = row + tl.arange(0, ROWS)
        mask = (rows < last)[:, None] & (c < C)[None, :]
        a = _gelu(tl.load(x_ptr + (rows[:, None] * C + c[None, :]), mask=mask, other=0.0).to(tl.float32))
        total += a * a
    tl.store(partial_ptr + (sample * chunks + chunk) * C + c, tl.sum(total, axis=0), mask=c < C)


@triton.jit
def scale(
    partial_ptr,
    gamma_ptr,
    norm_ptr,  # (samples, C)
    scale_ptr,  # (samples, C)
    eps,
    chunks,
    C: tl.constexpr,
    BC: tl.constexpr,
):
    sample = tl.program_id(0)
    c = tl.arange(0, BC)
    known = c < C
    total = tl.zeros((BC,), tl.float32)
    for chunk in range(chunks):
        total += tl.load(partial_ptr + (sample * chunks + chunk) * C + c, mask=known, other=0.0)
    norm = tl.sqrt(total)
    gamma = tl.load(gamma_ptr + c, mask=known, other=0.0).to(tl.float32)
    relative = norm / (tl.sum(norm, axis=0) / C + eps)
    tl.store(norm_ptr + sample * C + c, norm, mask=known)
    tl.store(scale_ptr + sample * C + c, 1 + gamma * relative, mask=known)


@triton.jit
def apply(
    x_ptr,
    scale_ptr,
    beta_ptr,
    out_ptr,
    offsets_ptr,
    tokens,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    BC: tl.constexpr,
    RAGGED: tl.constexpr,
):
    sample, chunk, chunks = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    first, last = _rows_of(sample, chunk, chunks, offsets_ptr, tokens, RAGGED)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    scale = tl.load(scale_ptr + sample * C + c, mask=c < C, other=0.0)[None, :]
    beta = tl.load(beta_ptr + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    for row in range(first, last, ROWS):
        rows = row + tl.arange(0, ROWS)
        mask = (rows < last)[:, None] & (c < C)[None, :]
        place = rows[:, None] * C + c[None, :]
        a = _gelu(tl.load(x_ptr + place, mask=mask, other=0.0).to(tl.float32))
        tl.store(out_ptr + place, (beta + a * scale).to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def grad_sums(
    x_ptr,
    grad_ptr,
    offsets_ptr,
    partial_ptr,  # (2, samples, chunks, C): of grad · a, and of grad
    tokens,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    BC: tl.constexpr,
    RAGGED: tl.constexpr,
):
    sample, chunk, chunks = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    first, last = _rows_of(sample, chunk, chunks, offsets_ptr, tokens, RAGGED)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    of_scale = tl.zeros((ROWS, BC), tl.float32)
    of_beta = tl.zeros((ROWS, BC), tl.float32)
    for row in range(first, last, ROWS):
        rows = row + tl.arange(0, ROWS)
        mask = (rows < last)[:, None] & (c < C)[None, :]
        place = rows[:, None] * C + c[None, :]
        grad = tl.load(grad_ptr + place, mask=mask, other=0.0).to(tl.float32)
        of_scale += grad * _gelu(tl.load(x_ptr + place, mask=mask, other=0.0).to(tl.float32))
        of_beta += grad
    to = partial_ptr + (sample * chunks + chunk) * C + c
    tl.store(to, tl.sum(of_scale, axis=0), mask=c < C)
    tl.store(to + tl.num_programs(0) * chunks * C, tl.sum(of_beta, axis=0), mask=c < C)


@triton.jit
def grad_scale(
    partial_ptr,
    gamma_ptr,
    norm_ptr,
    scale_ptr,
    through_ptr,  # (samples, C): what multiplies `a` in the gradient that reaches it through G
    of_weights_ptr,  # (2, samples, C): each sample's gradient of gamma and of beta
    eps,
    chunks,
    C: tl.constexpr,
    BC: tl.constexpr,
):
    sample, samples = tl.program_id(0), tl.num_programs(0)
    c = tl.arange(0, BC)
    known = c < C
    of_scale = tl.zeros((BC,), tl.float32)
    of_beta = tl.zeros((BC,), tl.float32)
    for chunk in range(chunks):
        at = partial_ptr + (sample * chunks + chunk) * C + c
        of_scale += tl.load(at, mask=known, other=0.0)
        of_beta += tl.load(at + samples * chunks * C, mask=known, other=0.0)
    gamma = tl.load(gamma_ptr + c, mask=known, other=0.0).to(tl.float32)
    norm = tl.load(norm_ptr + sample * C + c, mask=known, other=0.0)
    mean = tl.sum(norm, axis=0) / C + eps
    of_relative = gamma * of_scale
    of_norm = of_relative / mean - tl.sum(of_relative * norm, axis=0) / (mean * mean * C)
    through = tl.where(norm > 0, of_norm / tl.where(norm > 0, norm, 1.0), 0.0)  # 0 where a channel is silent
    at = sample * C + c
    tl.store(scale_ptr + at, 1 + gamma * (norm / mean), mask=known)
    tl.store(through_ptr + at, through, mask=known)
    tl.store(of_weights_ptr + at, of_scale * (norm / mean), mask=known)
    tl.store(of_weights_ptr + samples * C + at, of_beta, mask=known)


@triton.jit
def grad_apply(
    x_ptr,
    grad_ptr,
    scale_ptr,
    through_ptr,
    grad_x_ptr,
    offsets_ptr,
    tokens,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    BC: tl.constexpr,
    RAGGED: tl.constexpr,
):
    sample, chunk, chunks = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    first, last = _rows_of(sample, chunk, chunks, offsets_ptr, tokens, RAGGED)
    c = tl.program_id(2) * BC + tl.arange(0, BC)
    scale = tl.load(scale_ptr + sample * C + c, mask=c < C, other=0.0)[None, :]
    through = tl.load(through_ptr + sample * C + c, mask=c < C, other=0.0)[None, :]
    for row in range(first, last, ROWS):
        rows = row + tl.arange(0, ROWS)
        mask = (rows < last)[:, None] & (c < C)[None, :]
        place = rows[:, None] * C + c[None, :]
        x = tl.load(x_ptr + place, mask=mask, other=0.0).to(tl.float32)
        grad = tl.load(grad_ptr + place, mask=mask, other=0.0).to(tl.float32)
        below = 0.5 * (1 + tl.erf(x * 0.7071067811865476))
        slope = below + x * 0.3989422804014327 * tl.exp(-0.5 * x * x)
        grad_x = (grad * scale + x * below * through) * slope
        tl.store(grad_x_ptr + place, grad_x.to(grad_x_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _gelu(x):
    return 0.5 * x * (1 + tl.erf(x * 0.7071067811865476))


@triton.jit
def _rows_of(sample, chunk, chunks, offsets_ptr, tokens, RAGGED: tl.constexpr):
    """First row of a chunk, and the one after its last; a sample has `tokens` rows, or so many times its patches."""
    if RAGGED:
        first = tl.load(offsets_ptr + sample) * tokens
        last = tl.load(offsets_ptr + sample + 1) * tokens
    else:
        first = sample * tokens
        last = first + tokens
    per = (last - first + chunks - 1) // chunks
    return tl.minimum(first + chunk * per, last), tl.minimum(first + chunk * per + per, last)
