"""What attention, convolutions, pools, normalizations and quantized arithmetic mean: see reference.py.

Each function takes a node's inputs and attributes, and returns its one output or a tuple of them.
"""

from __future__ import annotations

import numpy as np

from .shapes import Tensor
from .shapes_layers import pool, transposed_pads, window_pads

LOWEST = float(np.finfo(np.float32).min)

# ---- attention ----


def _attention(q, k, v, query_mask=None, key_mask=None, column=None, *, heads, scale, hidden, causal):
    q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
    if column is None:
        scores = scale * np.einsum("bthw,bshw->bths", q, k)
    else:
        scores = scale * np.tanh(q[:, :, None] + k[:, None]) @ column
        scores = scores.transpose(0, 1, 3, 2)
    shown = np.tri(scores.shape[1], scores.shape[3], dtype=bool)[:, None] if causal else np.array(True)
    if query_mask is not None:
        shown = shown & query_mask[:, :, None, None]
    if key_mask is not None:
        shown = shown & key_mask[:, None, None, :]
    scores = np.where(shown, scores, hidden)
    powers = np.exp(scores - scores.max(-1, keepdims=True, initial=-np.inf))
    weights = powers / powers.sum(-1, keepdims=True)
    y = np.einsum("bths,bshw->bthw", weights, v)
    return y.reshape(*y.shape[:2], -1), weights


# ---- windows ----


def windows(x: np.ndarray, kernel, fill: float, counts, *, auto_pad, dilations, pads, strides) -> np.ndarray:
    """(batch, channels, *counts, *kernel): what each window sees; `fill` beyond the edges."""
    axes = len(kernel)
    dilations, strides = dilations or (1,) * axes, strides or (1,) * axes
    widths = window_pads(x.shape[2:], kernel, auto_pad=auto_pad, dilations=dilations, pads=pads, strides=strides)
    spans = [(width - 1) * dilation + 1 for width, dilation in zip(kernel, dilations)]
    if counts is not None:  # rounding up may want more than the pads give
        widths = [(before, max(after, (count - 1) * stride + span - size - before)) for (before, after), count, stride,
                  span, size in zip(widths, counts, strides, spans, x.shape[2:])]
    padded = np.pad(x, [(0, 0), (0, 0), *widths], constant_values=fill)
    seen = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=tuple(range(2, 2 + axes)))
    every = (slice(None),) * 2
    seen = seen[every + tuple(slice(None, None, stride) for stride in strides)
                + tuple(slice(None, None, dilation) for dilation in dilations)]
    return seen if counts is None else seen[every + tuple(slice(count) for count in counts)]


def _conv(x, w, b=None, *, group, kernel_shape, **options):
    seen = windows(x, w.shape[2:], 0, None, **options)
    axes = w.ndim - 2
    batch, counts = len(x), seen.shape[2:2 + axes]
    seen = seen.reshape(batch, group, -1, *seen.shape[2:])
    filters = w.reshape(group, -1, *w.shape[1:])
    kernel = list(range(3 + axes, 3 + 2 * axes))
    parts = [np.tensordot(seen[:, g], filters[g], ([1, *(axis - 1 for axis in kernel)], list(range(1, 2 + axes))))
             for g in range(group)]
    y = np.moveaxis(np.concatenate(parts, -1), -1, 1).reshape(batch, len(w), *counts)
    return y if b is None else y + b.reshape(-1, *(1,) * axes)


def convolution_of_frames(x: np.ndarray, w: np.ndarray, *, auto_pad, dilations=None, pads=None, strides=None) -> np.ndarray:
    """With channels last: x (batch, *sizes, channels), w (filters, *kernel, channels)."""
    seen = windows(np.moveaxis(x, -1, 1), w.shape[1:-1], 0, None, auto_pad=auto_pad, dilations=dilations, pads=pads,
                   strides=strides)
    axes = w.ndim - 2
    return np.tensordot(seen, np.moveaxis(w, -1, 1), ([1, *range(2 + axes, 2 + 2 * axes)], list(range(1, 2 + axes))))


def _conv_transpose(x, w, b=None, *, group, kernel_shape, **options):
    kernel, axes = w.shape[2:], w.ndim - 2
    strides, dilations = options["strides"] or (1,) * axes, options["dilations"] or (1,) * axes
    cuts = transposed_pads(x.shape[2:], kernel, **options)
    whole = np.zeros((len(x), group, w.shape[1], *(max(size, before + left) for size, before, left in cuts)))
    x, w = x.reshape(len(x), group, -1, *x.shape[2:]), w.reshape(group, -1, *w.shape[1:])
    for place in np.ndindex(*kernel):
        part = np.einsum("bgc...,gcf->bgf...", x, w[(..., *place)])
        first = [at * dilation for at, dilation in zip(place, dilations)]
        whole[(..., *(slice(at, at + stride * size, stride) for at, stride, size in zip(first, strides, x.shape[3:])))] += part
    y = whole[(..., *(slice(before, before + left) for _, before, left in cuts))].reshape(
        len(x), -1, *(left for _, _, left in cuts))
    return y if b is None else y + b.reshape(-1, *(1,) * axes)


def _pooled(x, kernel_shape, ceil_mode, options, fill):
    """(batch, channels, *counts, *kernel) and the axes of the kernel."""
    (made,) = pool(Tensor(_dtype(x), x.shape), kernel_shape=kernel_shape, ceil_mode=ceil_mode, **options)
    return windows(x, kernel_shape, fill, made.shape[2:], **options), tuple(range(-len(kernel_shape), 0))


def _lowest(x: np.ndarray) -> float:
    return LOWEST if x.dtype.kind == "f" else np.iinfo(x.dtype).min


def _max_pool(x, *, kernel_shape, ceil_mode, storage_order, **options):
    """As onnxruntime's over one axis: from the lowest float on whatever is larger, which a NaN is not."""
    seen, inside = _pooled(x, kernel_shape, ceil_mode, options, _lowest(x))
    return np.fmax.reduce(seen, axis=inside, initial=_lowest(x))


def _global_max_pool(x):
    return np.fmax.reduce(x, axis=tuple(range(2, x.ndim)), keepdims=True, initial=_lowest(x))


def _average_pool(x, *, kernel_shape, ceil_mode, count_include_pad, **options):
    seen, inside = _pooled(x, kernel_shape, ceil_mode, options, 0)
    if count_include_pad:  # the pads count, what rounding up adds does not
        widths = window_pads(x.shape[2:], kernel_shape, **options)
        ones = np.pad(np.ones_like(x), [(0, 0), (0, 0), *widths], constant_values=1)
        options |= {"auto_pad": "NOTSET", "pads": None}
    else:
        ones = np.ones_like(x)
    counted = windows(ones, kernel_shape, 0, seen.shape[2:2 + len(inside)], **options)
    return seen.sum(inside) / counted.sum(inside)


def _dtype(x: np.ndarray) -> str:
    return x.dtype.name


# ---- normalizations ----


def _per_channel(parameter: np.ndarray, rank: int) -> np.ndarray:
    return parameter.reshape(-1, *(1,) * (rank - 2))


def _batch_normalization(x, scale, b, mean, var, *, epsilon, momentum, training_mode):
    scale, b, mean, var = (_per_channel(parameter, x.ndim) for parameter in (scale, b, mean, var))
    return (x - mean) / np.sqrt(var + epsilon) * scale + b


def _normalized(x: np.ndarray, axes: tuple[int, ...], epsilon: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalized x, its mean, and one over its deviation."""
    mean = x.mean(axes, keepdims=True)
    factor = 1 / np.sqrt(np.square(x - mean).mean(axes, keepdims=True) + epsilon)
    return (x - mean) * factor, mean, factor


def _instance_normalization(x, scale, b, *, epsilon):
    normalized, _, _ = _normalized(x, tuple(range(2, x.ndim)), epsilon)
    return normalized * _per_channel(scale, x.ndim) + _per_channel(b, x.ndim)


def _layer_normalization(x, scale, b=None, *, axis, epsilon, stash_type):
    normalized, mean, factor = _normalized(x, tuple(range(axis % x.ndim, x.ndim)), epsilon)
    y = normalized * np.broadcast_to(scale, x.shape)
    return (y if b is None else y + np.broadcast_to(b, x.shape)), mean, factor


def _lp_normalization(x, *, axis, p):
    norm = np.linalg.norm(x, p, axis, keepdims=True)
    return np.divide(x, norm, out=np.zeros_like(x), where=norm != 0)


def _mean_variance(x, *, axes):
    mean = x.mean(tuple(axes), keepdims=True)
    return (x - mean) / (x.std(tuple(axes), keepdims=True) + 1e-9)


# ---- quantized: in float32, so that what lies between two integers is rounded as elsewhere ----


def _along(parameter: np.ndarray, rank: int, axis: int) -> np.ndarray:
    """A vector laid along `axis`; one number as it is."""
    if parameter.size == 1:
        return parameter.reshape(())
    shape = [1] * rank
    shape[axis] = -1
    return parameter.reshape(shape)


def _rounded(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    limits = np.iinfo(dtype)
    return np.clip(x, limits.min, limits.max).astype(dtype)


def _quantize(x, scale, zero_point=None, *, axis, saturate):
    zero_point = np.uint8(0) if zero_point is None else zero_point
    steps = np.rint(np.float32(x) / np.float32(_along(scale, x.ndim, axis)))
    return _rounded(steps + _along(np.asarray(zero_point), x.ndim, axis), zero_point.dtype)


def _dequantize(x, scale, zero_point=None, *, axis):
    zero = 0 if zero_point is None else _along(zero_point, x.ndim, axis).astype(np.int64)
    return (x.astype(np.int64) - zero) * _along(scale, x.ndim, axis)


def _dynamic_quantize(x):
    low, high = np.float32(min(x.min(), 0)), np.float32(max(x.max(), 0))
    scale = (high - low) / np.float32(255)
    scale = np.float32(1) if scale == 0 else scale
    zero = _rounded(np.rint(-low / scale), np.dtype("uint8"))
    return _rounded(np.rint(np.float32(x) / scale) + zero, np.dtype("uint8")), np.float64(scale), zero


def dynamic_product(x: np.ndarray, q: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    """x (..., inputs), quantized as one range, times the weights scale (q - zero), q (outputs, inputs): (..., outputs)."""
    if x.size == 0:
        return np.zeros((*x.shape[:-1], len(q)))
    whole, x_scale, x_zero = _dynamic_quantize(x)
    total = _shifted(whole, x_zero, True) @ _shifted(q, zero, True).T
    return total * np.float64(np.float32(x_scale) * np.float32(scale))


def _dynamic_quantize_matmul(a, b, scale, zero, *, batch_axis):
    if batch_axis < 0:
        return dynamic_product(a, b.T, scale, zero)
    return np.stack([dynamic_product(part, b.T, scale, zero) for part in np.moveaxis(a, batch_axis, 0)], batch_axis)


def _shifted(x: np.ndarray, zero: np.ndarray | None, row: bool) -> np.ndarray:
    if zero is None:
        return x.astype(np.int64)
    zero = zero.reshape(()) if zero.size == 1 else zero.reshape(-1, 1) if row else zero
    return x.astype(np.int64) - zero


def _matmul_integer(a, b, a_zero=None, b_zero=None):
    return (_shifted(a, a_zero, True) @ _shifted(b, b_zero, False)).astype(np.int32)


def _qlinear_matmul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero):
    a_scale = a_scale.reshape(()) if a_scale.size == 1 else a_scale.reshape(-1, 1)
    product = _matmul_integer(a, b, a_zero, b_zero)
    factor = np.float32(np.float32(a_scale) * np.float32(b_scale) / np.float32(y_scale))
    return _rounded(np.rint(np.float32(product) * factor) + y_zero, y_zero.dtype)


LAYERS = {
    "Attention": _attention,
    "Conv": _conv, "ConvTranspose": _conv_transpose,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalMaxPool": _global_max_pool,
    "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), keepdims=True),
    "BatchNormalization": _batch_normalization,
    "InstanceNormalization": _instance_normalization,
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "DynamicQuantizeMatMul": _dynamic_quantize_matmul,
    "MatMulInteger": _matmul_integer,
    "QLinearMatMul": _qlinear_matmul,
}
