"""LayerNorm over the channels of tokens, rows (n, C), in Triton: float32 inside, any precision in and out."""

import triton
import triton.language as tl


@triton.jit
def normalise(
    x_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    mean_ptr,
    inverse_ptr,
    count,
    eps,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    BC: tl.constexpr,
):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, BC)
    mask = (rows < count)[:, None] & (c < C)[None, :]
    place = rows[:, None] * C + c[None, :]
    x = tl.load(x_ptr + place, mask=mask, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=1) / C
    centred = tl.where(mask, x - mean[:, None], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, axis=1) / C + eps)
    weight = tl.load(weight_ptr + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    bias = tl.load(bias_ptr + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    out = centred * inverse[:, None] * weight + bias
    tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty), mask=mask)
    tl.store(mean_ptr + rows, mean, mask=rows < count)
    tl.store(inverse_ptr + rows, inverse, mask=rows < count)


@triton.jit
def gradients(
    x_ptr,
    grad_ptr,
    weight_ptr,
    mean_ptr,
    inverse_ptr,
    grad_x_ptr,
    partial_ptr,  # (2, programs, C): of the weight and of the bias
    count,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    BC: tl.constexpr,
):
    program, programs = tl.program_id(0), tl.num_programs(0)
    c = tl.arange(0, BC)
    weight = tl.load(weight_ptr + c, mask=c < C, other=0.0).to(tl.float32)[None, :]
    of_weight = tl.zeros((ROWS, BC), tl.float32)
    of_bias = tl.zeros((ROWS, BC), tl.float32)
    for row in range(program * ROWS, count, programs * ROWS):
        rows = row + tl.arange(0, ROWS)
        mask = (rows < count)[:, None] & (c < C)[None, :]
        place = rows[:, None] * C + c[None, :]
        mean = tl.load(mean_ptr + rows, mask=rows < count, other=0.0)[:, None]
        inverse = tl.load(inverse_ptr + rows, mask=rows < count, other=0.0)[:, None]
        normed = (tl.load(x_ptr + place, mask=mask, other=0.0).to(tl.float32) - mean) * inverse
        grad = tl.load(grad_ptr + place, mask=mask, other=0.0).to(tl.float32)
        of_weight += grad * normed
        of_bias += grad
        grad = grad * weight
        normed = tl.where(mask, normed, 0.0)
        shared = tl.sum(grad, axis=1) / C
        along = tl.sum(grad * normed, axis=1) / C
        grad_x = (grad - shared[:, None] - normed * along[:, None]) * inverse
        tl.store(grad_x_ptr + place, grad_x.to(grad_x_ptr.dtype.element_ty), mask=mask)
    tl.store(partial_ptr + program * C + c, tl.sum(of_weight, axis=0), mask=c < C)
    tl.store(partial_ptr + (programs + program) * C + c, tl.sum(of_bias, axis=0), mask=c < C)
