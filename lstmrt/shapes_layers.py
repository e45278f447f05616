"""Shape rules, as in shapes.py, of attention, convolutions, pools, normalizations and quantized arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from .graph import Dim
from .shapes import (FLOATS, Mismatch, Tensor, broadcast_shapes, check_fill, normal_axes, normal_axis, require, same_dtype,
                     same_shape, same_size)

BYTES = ("int8", "uint8")


# ---- attention ----


def attention(q: Tensor, k: Tensor, v: Tensor, query_mask: Tensor | None = None, key_mask: Tensor | None = None,
              column: Tensor | None = None, *, heads, scale, hidden, causal) -> list[Tensor]:
    require(q, FLOATS)
    for other in (k, v, *filter(None, [column])):
        same_dtype(q, other)
    for mask in filter(None, (query_mask, key_mask)):
        require(mask, ("bool",))
    if any(x.shape is None for x in (q, k, v)):
        return [Tensor(q.dtype, None), Tensor(q.dtype, None)]
    widths = [x.shape[2:] for x in (q, k, v)]
    if any(len(width) != 1 for width in widths) or not (same_size(*widths[0], *widths[1]) and same_size(k.shape[1], v.shape[1])):
        raise Mismatch(f"queries, keys and values of shapes {q.shape}, {k.shape} and {v.shape}")
    if heads < 1 or any(isinstance(width, int) and width % heads for (width,) in widths):
        raise Mismatch(f"{heads} heads in queries, keys and values of shapes {q.shape}, {k.shape} and {v.shape}")
    return [Tensor(q.dtype, (*q.shape[:2], v.shape[2])), Tensor(q.dtype, (*q.shape[:2], heads, k.shape[1]))]


# ---- windows ----


def window_pads(sizes: Sequence[int], kernel: Sequence[int], *, auto_pad, dilations, pads, strides) -> list[tuple]:
    """(before, after) of each axis; `sizes` are the input's."""
    axes = len(kernel)
    if auto_pad in ("NOTSET", "VALID"):
        pads = pads if auto_pad == "NOTSET" and pads is not None else (0,) * (2 * axes)
        return list(zip(pads[:axes], pads[axes:]))
    found = []
    for size, width, dilation, stride in zip(sizes, kernel, dilations or (1,) * axes, strides or (1,) * axes):
        total = max((-(-size // stride) - 1) * stride + (width - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        found.append((small, large) if auto_pad == "SAME_UPPER" else (large, small))
    return found


def _check_windows(axes: int, options: dict) -> None:
    lowest = {"dilations": 1, "strides": 1, "pads": 0, "output_padding": 0, "output_shape": 1}
    for name in lowest.keys() & options.keys():
        given, count = options[name], 2 * axes if name == "pads" else axes
        if given is not None and (len(given) != count or min(given, default=1) < lowest[name]):
            raise Mismatch(f"{name} {given} for {axes} axes")
    check_fill([max(options["pads"] or (1,))])


def windowed(sizes: Sequence[Dim], kernel: Sequence[int], options: dict, ceil_mode: int = 0) -> tuple[Dim, ...]:
    """How many windows fit along each axis."""
    axes = len(sizes)
    _check_windows(axes, options)
    if len(kernel) != axes or min(kernel, default=1) < 1:
        raise Mismatch(f"a kernel of {tuple(kernel)} over {axes} axes")
    result: list[Dim] = []
    steps = zip(sizes, kernel, options["dilations"] or (1,) * axes, options["strides"] or (1,) * axes)
    for i, (size, width, dilation, stride) in enumerate(steps):
        if not isinstance(size, int):
            alone = {**options, **{name: (options[name][i],) for name in ("dilations", "strides") if options[name]}}
            alone["pads"] = options["pads"] and (options["pads"][i], options["pads"][i + axes])
            unchanged = stride == 1 and sum(window_pads([width], [width], **alone)[0]) == (width - 1) * dilation
            result.append(size if unchanged or (stride == 1 and options["auto_pad"].startswith("SAME")) else None)
            continue
        if options["auto_pad"].startswith("SAME"):
            result.append(-(-size // stride))
            continue
        before, after = (0, 0) if options["pads"] is None or options["auto_pad"] == "VALID" else (
            options["pads"][i], options["pads"][i + axes])
        room = size + before + after - (width - 1) * dilation - 1
        if room < 0:
            raise Mismatch(f"a kernel of {width} (dilation {dilation}) does not fit into {size} + {before} + {after}")
        count = (-(-room // stride) if ceil_mode else room // stride) + 1
        if ceil_mode and (count - 1) * stride >= size + before:
            count -= 1  # a last window must not lie in the padding alone
        result.append(count)
    check_fill(result)
    return tuple(result)


def _floats_alike(x: Tensor, *others: Tensor | None) -> None:
    for tensor in filter(None, (x, *others)):
        require(tensor, FLOATS)
        same_dtype(x, tensor)


def _check_reach(kernel: Sequence[int], options: dict) -> None:
    """Native windows are told in 31 bits."""
    for name, widths in (("strides", (1,) * len(kernel)), ("dilations", kernel)):
        if any(width * apart >= 2**31 for width, apart in zip(widths, options[name] or ())):
            raise Mismatch(f"{name} {options[name]}: windows of 2**31 places or more")


def _check_kernel(x: Tensor, w: Tensor, kernel_shape: Sequence[int] | None) -> None:
    if len(x.shape) < 3 or len(w.shape) != len(x.shape):
        raise Mismatch(f"X of shape {x.shape} and W of shape {w.shape}")
    if kernel_shape is not None and tuple(kernel_shape) != tuple(w.shape[2:]):
        raise Mismatch(f"kernel_shape {kernel_shape}, but W has shape {w.shape}")


def conv(x: Tensor, w: Tensor, b: Tensor | None = None, *, group, kernel_shape, **options) -> list[Tensor]:
    _floats_alike(x, w, b)
    if x.shape is None or w.shape is None:
        return [Tensor(x.dtype, None)]
    _check_kernel(x, w, kernel_shape)
    filters, channels, *kernel = w.shape
    if not all(isinstance(size, int) for size in w.shape):
        return [Tensor(x.dtype, (x.shape[0], filters) + (None,) * len(kernel))]
    if group < 1 or filters % group or not same_size(x.shape[1], channels * group):
        raise Mismatch(f"X of shape {x.shape} and W of shape {w.shape} with {group} groups")
    if b is not None and b.shape is not None and b.shape != (filters,):
        raise Mismatch(f"B of shape {b.shape}, expected ({filters},)")
    return [Tensor(x.dtype, (x.shape[0], filters, *windowed(x.shape[2:], kernel, options)))]


def conv_lstm(x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, initial_h: Tensor | None = None,
              initial_c: Tensor | None = None, mask: Tensor | None = None, *, direction, masked_output, activations,
              activation_alpha, activation_beta, **options) -> list[Tensor]:
    _floats_alike(x, w, r, b, initial_h, initial_c)
    if not (w.shape and r.shape and all(isinstance(size, int) for size in (*w.shape, *r.shape))):
        raise Mismatch(f"W and R: expected known shapes, got {w.shape} and {r.shape}")
    gates, *kernel, channels = w.shape
    filters, axes = gates // 4, len(kernel)
    if axes < 1 or gates < 4 or gates % 4:
        raise Mismatch(f"W: shape {w.shape}, expected (4 filters, kernel sizes, channels)")
    if x.shape is not None and len(x.shape) != axes + 3:
        raise Mismatch(f"X: shape {x.shape}, expected (batch, time, {axes} sizes, channels)")
    batch, time, *sizes, width = x.shape or (None,) * (axes + 3)
    counts = windowed(sizes, kernel, options)
    _check_reach(kernel, options)
    states = (batch, *counts, filters)
    wanted = {"X": (x, (batch, time, *sizes, channels)), "R": (r, (gates, *kernel, filters)), "B": (b, (gates,)),
              "initial_h": (initial_h, states), "initial_c": (initial_c, states), "mask": (mask, (batch, time))}
    faults = [f"{name}: shape {tensor.shape}, expected {shape}" for name, (tensor, shape) in wanted.items()
              if tensor is not None and not same_shape(tensor.shape, shape)]
    if mask is not None and mask.dtype != "bool":
        faults.append(f"mask: dtype {mask.dtype}, expected bool")
    if faults:
        raise Mismatch(*faults)
    return [Tensor(x.dtype, (batch, time, *counts, filters))] + [Tensor(x.dtype, states)] * 2


def transposed_pads(sizes: Sequence[int], kernel: Sequence[int], *, auto_pad, dilations, pads, strides, output_padding,
                    output_shape) -> list[tuple[int, int, int]]:
    """Of each axis: what a transposed convolution makes of it uncut, what is cut off in front, and what is left."""
    axes = len(kernel)
    pads, found = pads or (0,) * (2 * axes), []
    every = zip(sizes, kernel, dilations or (1,) * axes, strides or (1,) * axes, output_padding or (0,) * axes)
    for i, (size, width, dilation, stride, more) in enumerate(every):
        whole = stride * (size - 1) + more + (width - 1) * dilation + 1
        if output_shape is None and not auto_pad.startswith("SAME"):
            before, after = (0, 0) if auto_pad == "VALID" else (pads[i], pads[i + axes])
            found.append((whole, before, whole - before - after))
            continue
        left = output_shape[i] if output_shape else min(size * stride, whole)  # a stride wider than its kernel: as onnxruntime
        total = max(whole - left, 0)
        found.append((whole, total // 2 if auto_pad == "SAME_UPPER" else total - total // 2, left))
    return found


def conv_transpose(x: Tensor, w: Tensor, b: Tensor | None = None, *, group, kernel_shape, **options) -> list[Tensor]:
    _floats_alike(x, w, b)
    if x.shape is None or w.shape is None or not all(isinstance(size, int) for size in w.shape):
        return [Tensor(x.dtype, None)]
    _check_kernel(x, w, kernel_shape)
    channels, filters, *kernel = w.shape
    if group < 1 or channels % group or not same_size(x.shape[1], channels):
        raise Mismatch(f"X of shape {x.shape} and W of shape {w.shape} with {group} groups")
    if b is not None and b.shape is not None and b.shape != (filters * group,):
        raise Mismatch(f"B of shape {b.shape}, expected ({filters * group},)")
    _check_windows(len(kernel), options)
    sizes = [size if isinstance(size, int) else 1 for size in x.shape[2:]]
    made = [left for _, _, left in transposed_pads(sizes, kernel, **options)]
    known = [left for left, size in zip(made, x.shape[2:]) if isinstance(size, int)]
    if min(known, default=1) < 1:
        raise Mismatch(f"pads {options['pads']} leave nothing of shape {x.shape}")
    check_fill(known)
    made = [left if isinstance(size, int) else None for left, size in zip(made, x.shape[2:])]
    return [Tensor(x.dtype, (x.shape[0], filters * group, *made))]


def pool(x: Tensor, *, kernel_shape, ceil_mode, count_include_pad=0, storage_order=0, **options) -> list[Tensor]:
    require(x, FLOATS + BYTES)
    if x.shape is None:
        return [Tensor(x.dtype, None)]
    if len(x.shape) < 3:
        raise Mismatch(f"shape {x.shape}, expected at least three axes")
    sizes = windowed(x.shape[2:], kernel_shape, options, ceil_mode)
    pads = options["pads"] or ()
    if any(pad >= width for pad, width in zip(pads, kernel_shape * 2)):
        raise Mismatch(f"pads {pads} are not smaller than the kernel {kernel_shape}")
    return [Tensor(x.dtype, (*x.shape[:2], *sizes))]


def global_pool(x: Tensor) -> list[Tensor]:
    require(x, FLOATS)
    if x.shape is None:
        return [Tensor(x.dtype, None)]
    if len(x.shape) < 2 or 0 in x.shape[2:]:
        raise Mismatch(f"shape {x.shape}")
    return [Tensor(x.dtype, x.shape[:2] + (1,) * (len(x.shape) - 2))]


# ---- normalizations ----


def batch_normalization(x: Tensor, *parameters: Tensor, epsilon, momentum, training_mode) -> list[Tensor]:
    require(x, FLOATS)
    if x.shape is not None and len(x.shape) < 2:
        raise Mismatch(f"shape {x.shape}, expected at least two axes")
    _per_channel(x, parameters)
    return [Tensor(x.dtype, x.shape)]


def _per_channel(x: Tensor, parameters: Sequence[Tensor]) -> None:
    for parameter in parameters:
        require(parameter, FLOATS)
        wanted = (None if x.shape is None else x.shape[1],)
        if parameter.shape is not None and not (len(parameter.shape) == 1 and same_size(parameter.shape[0], wanted[0])):
            raise Mismatch(f"a parameter of shape {parameter.shape}, expected {wanted}")


def instance_normalization(x: Tensor, scale: Tensor, b: Tensor, *, epsilon) -> list[Tensor]:
    require(x, FLOATS)
    if x.shape is not None and len(x.shape) < 3:
        raise Mismatch(f"shape {x.shape}, expected at least three axes")
    _per_channel(x, (scale, b))
    return [Tensor(x.dtype, x.shape)]


def layer_normalization(x: Tensor, scale: Tensor, b: Tensor | None = None, *, axis, epsilon,
                        stash_type) -> list[Tensor]:
    require(x, FLOATS)
    for tensor in filter(None, (scale, b)):
        same_dtype(x, tensor)
    if x.shape is None:
        return [Tensor(x.dtype, None)] + [Tensor("float32", None)] * 2
    axis = normal_axis(axis, len(x.shape))
    for tensor in filter(None, (scale, b)):
        if tensor.shape is not None and not same_shape(broadcast_shapes(x.shape, tensor.shape), x.shape):
            raise Mismatch(f"shape {tensor.shape} does not scale {x.shape}")
    stash = Tensor("float32", x.shape[:axis] + (1,) * (len(x.shape) - axis))
    return [Tensor(x.dtype, x.shape), stash, stash]


def lp_normalization(x: Tensor, *, axis, p) -> list[Tensor]:
    require(x, FLOATS)
    if x.shape is not None:
        normal_axis(axis, len(x.shape))
    return [Tensor(x.dtype, x.shape)]


def mean_variance(x: Tensor, *, axes) -> list[Tensor]:
    require(x, FLOATS)
    if x.shape is not None:
        normal_axes(axes, len(x.shape))
    return [Tensor(x.dtype, x.shape)]


# ---- quantized ----


def _parameters(x: Tensor, scale: Tensor, zero_point: Tensor | None, axis: int) -> None:
    """A scale and a zero point are one number, or one for each element along `axis` of x."""
    if zero_point is not None and None not in (scale.shape, zero_point.shape) and scale.shape != zero_point.shape:
        if {scale.shape, zero_point.shape} != {(), (1,)}:
            raise Mismatch(f"a scale of shape {scale.shape} and a zero point of shape {zero_point.shape}")
    if scale.shape is None or x.shape is None or scale.shape in ((), (1,)):
        return
    if len(scale.shape) != 1:
        raise Mismatch(f"a scale of shape {scale.shape}, expected one number or a vector")
    if not same_size(scale.shape[0], x.shape[normal_axis(axis, len(x.shape))]):
        raise Mismatch(f"a scale of shape {scale.shape} along axis {axis} of shape {x.shape}")


def quantize(x: Tensor, scale: Tensor, zero_point: Tensor | None = None, *, axis, saturate) -> list[Tensor]:
    require(x, FLOATS + ("int32",))
    require(scale, FLOATS)
    if zero_point is not None:
        require(zero_point, BYTES + ("int16", "uint16"))
    _parameters(x, scale, zero_point, axis)
    return [Tensor("uint8" if zero_point is None else zero_point.dtype, x.shape)]


def dequantize(x: Tensor, scale: Tensor, zero_point: Tensor | None = None, *, axis) -> list[Tensor]:
    require(x, BYTES + ("int16", "uint16", "int32"))
    require(scale, FLOATS)
    if zero_point is not None:
        same_dtype(x, zero_point)
    _parameters(x, scale, zero_point, axis)
    return [Tensor(scale.dtype, x.shape)]


def dynamic_quantize(x: Tensor) -> list[Tensor]:
    require(x, ("float32",))
    if x.shape is not None and 0 in x.shape:
        raise Mismatch(f"shape {x.shape}: nothing to quantize")
    return [Tensor("uint8", x.shape), Tensor("float32", ()), Tensor("uint8", ())]


def _product(a: Tensor, b: Tensor) -> tuple | None:
    if a.shape is None or b.shape is None:
        return None
    if len(a.shape) < 2 or len(b.shape) < 2 or not same_size(a.shape[-1], b.shape[-2]):
        raise Mismatch(f"shapes {a.shape} and {b.shape}: not two matrices whose inner sizes fit")
    return broadcast_shapes(a.shape[:-2], b.shape[:-2]) + (a.shape[-2], b.shape[-1])


def _zero_of(matrix: Tensor, zero: Tensor | None, side: int) -> None:
    """`zero` is one number, or one for each row (side -2) or column (side -1)."""
    if zero is None or zero.shape is None or zero.shape in ((), (1,)):
        return
    if matrix.shape is not None and not (len(zero.shape) == 1 and same_size(zero.shape[0], matrix.shape[side])):
        raise Mismatch(f"a zero point of shape {zero.shape} for shape {matrix.shape}")


def matmul_integer(a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None) -> list[Tensor]:
    for tensor in filter(None, (a, b, a_zero, b_zero)):
        require(tensor, BYTES)
    shape = _product(a, b)
    _zero_of(a, a_zero, -2)
    _zero_of(b, b_zero, -1)
    return [Tensor("int32", shape)]


def dynamic_quantize_matmul(a: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor, *, batch_axis) -> list[Tensor]:
    require(a, ("float32",))
    require(b, ("int8",))
    require(b_scale, ("float32",))
    require(b_zero, ("int8",))
    shape = _product(a, b)
    if b.shape is not None and (len(b.shape) != 2 or b_scale.shape not in ((), (1,), b.shape[1:])):
        raise Mismatch(f"b_scale: shape {b_scale.shape} for B of shape {b.shape}")
    if a.shape is not None and not -1 <= batch_axis < len(a.shape) - 1:
        raise Mismatch(f"batch_axis: {batch_axis}, of shape {a.shape}")
    return [Tensor("float32", shape)]


def qlinear_matmul(a: Tensor, a_scale: Tensor, a_zero: Tensor, b: Tensor, b_scale: Tensor, b_zero: Tensor,
                   y_scale: Tensor, y_zero: Tensor) -> list[Tensor]:
    for tensor in (a, a_zero, b, b_zero, y_zero):
        require(tensor, BYTES)
    for tensor in (a_scale, b_scale, y_scale):
        require(tensor, FLOATS)
    shape = _product(a, b)
    for tensor in (a_scale, a_zero):
        _zero_of(a, tensor, -2)
    for tensor in (b_scale, b_zero):
        _zero_of(b, tensor, -1)
    for tensor in (y_scale, y_zero):
        if tensor.shape not in ((), (1,), None):
            raise Mismatch(f"a parameter of the result has shape {tensor.shape}, expected one number")
    return [Tensor(y_zero.dtype, shape)]
