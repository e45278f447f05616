"""Attention, AdditiveAttention and MultiHeadAttention.

Scores are of shape (batch, query steps, value steps), those of several heads (batch, heads, query steps, value steps).
Where a mask hides a score it is -1e9: a row whose scores are all hidden attends to every step alike, as in Keras. Only
MultiHeadAttention of Keras since 3.10 has weights of 0 there, and not always: see `_zeroes_hidden_weights`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Literal, Union

import numpy as np

from ...errors import ModelFileError, UnsupportedError
from .builder import Scope, Tensor, Tensors
from .json import shown
from .weights import take

HIDDEN = -1e9


# ---- one head ----


def attention(scope: Scope, inputs: Tensors, mask: Any = None, return_attention_scores: bool = False,
              use_causal_mask: bool = False, *, use_scale: bool = False, score_mode: Literal["dot", "concat"] = "dot",
              causal: bool = False) -> Tensors:
    """softmax(score(query, key)) · value; `inputs` are query, value and, where it is not the value, key."""
    concat = score_mode == "concat"
    arrays = take(scope.weights, **{"scale": ()} if use_scale else {}, **{"concat_score_weight": ()} if concat else {})

    def scores(query: str, key: str) -> str:
        if not concat:
            product = scope.add("MatMul", query, scope.add("Transpose", key, perm=(0, 2, 1)))
            return scope.add("Mul", product, scope.constant("scale", arrays[0])) if use_scale else product
        total = _sums_of_pairs(scope, query, key)
        if use_scale:
            total = scope.add("Mul", total, scope.constant("scale", arrays[0]))
        summed = scope.add("ReduceSum", scope.add("Tanh", total), scope.ints("last_axis", [-1]), keepdims=0)
        return scope.add("Mul", summed, scope.constant("concat_score_weight", arrays[-1]))

    return _attend(scope, inputs, mask, scores, causal or use_causal_mask, return_attention_scores)


def additive_attention(scope: Scope, inputs: Tensors, mask: Any = None, return_attention_scores: bool = False,
                       use_causal_mask: bool = False, *, use_scale: bool = True, causal: bool = False) -> Tensors:
    """Bahdanau's: scores are the sums of scale · tanh(query + key)."""
    _check(inputs)
    width = inputs[0].width
    arrays = take(scope.weights, **{"scale": (width,)} if use_scale else {})
    column = arrays[0][:, None] if use_scale else np.ones((width, 1), np.float32)

    def scores(query: str, key: str) -> str:
        energies = scope.add("Tanh", _sums_of_pairs(scope, query, key))
        return scope.squeeze(scope.add("MatMul", energies, scope.constant("scale", column)), -1)

    return _attend(scope, inputs, mask, scores, causal or use_causal_mask, return_attention_scores)


def _sums_of_pairs(scope: Scope, query: str, key: str) -> str:
    """query + key of each pair of steps: (batch, query steps, value steps, width)"""
    return scope.add("Add", scope.unsqueeze(query, 2), scope.unsqueeze(key, 1))


def _attend(scope: Scope, inputs: Tensors, mask: Any, scores: Callable[[str, str], str], causal: bool,
            return_scores: bool) -> Tensors:
    _check(inputs)
    query_mask, value_mask = _masks(inputs, mask)
    query, value, key = (scope.floats(x) for x in (*inputs, inputs[1])[:3])
    made = scores(query.name, key.name)
    shown_scores = [scope.unsqueeze(value_mask, 1)] if value_mask else []
    if causal:
        shown_scores.append(_causal(scope, query, value))
    weights = scope.add("Softmax", _hidden(scope, made, _all(scope, shown_scores)), axis=-1)
    y = _at_shown_steps(scope, scope.add("MatMul", weights, value.name), [query_mask] if query_mask else [])
    return [scope.tensor(y, query_mask), *[scope.tensor(weights)] * return_scores]


def _check(inputs: Tensors) -> None:
    if not 2 <= len(inputs) <= 3 or any(x.rank != 3 for x in inputs):
        raise ModelFileError(f"called on {[x.shape for x in inputs]}, expected query, value and perhaps key of 3 axes")


def _masks(inputs: Tensors, mask: Any) -> tuple[str, str]:
    """Of the query and of the value: those of the call, or those that they carry."""
    if mask is None:
        return inputs[0].mask, inputs[1].mask
    if not isinstance(mask, list) or len(mask) < 2 or not all(isinstance(one, (Tensor, type(None))) for one in mask):
        raise UnsupportedError(f"called with mask={shown(mask)}")
    return tuple(one.name if one else "" for one in mask[:2])


def _all(scope: Scope, masks: list[str]) -> str:
    """Where all of `masks` are set; '' for no masks."""
    return reduce(lambda a, b: scope.add("And", a, b), masks) if masks else ""


def _hidden(scope: Scope, scores: str, mask: str, value: float = HIDDEN) -> str:
    """`scores`, and `value` where `mask`, if there is one, is not set."""
    return scope.add("Where", mask, scores, scope.scalar(value)) if mask else scores


def _at_shown_steps(scope: Scope, x: str, masks: list[str]) -> str:
    """x (batch, steps, width), 0 at steps where one of `masks` is not set."""
    return reduce(lambda y, mask: scope.add("Mul", y, scope.cast(scope.unsqueeze(mask, 2), "float32")), masks, x)


def _causal(scope: Scope, query: Tensor, value: Tensor) -> str:
    """(1, query steps, value steps): whether the value step is not later than the query step."""
    sizes = scope.sizes([1, query.shape[1], value.shape[1]], query, value)
    everything = scope.add("Expand", scope.constant("true", np.array(True)), sizes)
    return scope.add("Trilu", everything, upper=0)


# ---- several heads ----


def multi_head_attention(scope: Scope, query: Tensor, value: Tensor, key: Tensor | None = None,
                         query_mask: Tensor | None = None, value_mask: Tensor | None = None,
                         key_mask: Tensor | None = None, attention_mask: Tensor | None = None,
                         return_attention_scores: bool = False, use_causal_mask: bool = False, *, num_heads: int,
                         key_dim: int, value_dim: Union[int, None] = None, use_bias: bool = True,
                         use_gate: Literal[False] = False, output_shape: Union[list, int, None] = None,
                         attention_axes: Union[list, None] = None, dropout: float = 0.0) -> Tensors:
    """Each head's softmax(query · key / sqrt(key_dim)) · value, side by side through the output's dense layer."""
    key = value if key is None else key
    if any(x.rank != 3 for x in (query, value, key)) or attention_axes not in (None, [1]):
        raise UnsupportedError(f"inputs of {query.rank} axes, or attention_axes={shown(attention_axes)}")
    value_dim = value_dim or key_dim
    width = _output_width(output_shape, query)
    projections = [_projected(scope, name, x, num_heads, size, use_bias) for name, x, size in (
        ("query_dense", query, key_dim), ("key_dense", key, key_dim), ("value_dense", value, value_dim))]
    query_masks, key_masks = (list(dict.fromkeys(filter(None, names))) for names in (
        [_mask_of(query, query_mask)], [_mask_of(value, value_mask), _mask_of(key, key_mask)]))
    masks = [scope.unsqueeze(mask, 2) for mask in query_masks] + [scope.unsqueeze(mask, 1) for mask in key_masks]
    masks += [_causal(scope, query, value)] if use_causal_mask else []
    masks = [scope.unsqueeze(mask, 1) for mask in masks]
    if attention_mask is not None:
        given = scope.cast(attention_mask.name, "bool")
        masks.append(scope.unsqueeze(given, 1) if attention_mask.rank == 3 else given)
    mask = _all(scope, masks)

    zeroed = _zeroes_hidden_weights(scope, dropout, return_attention_scores)
    # Then a row that is hidden as a whole is 0 because its query is, or because all its values are: so the attention itself
    # stays as it is. In pairs of their own, and where keys are hidden before the first that a causal row sees, it is neither.
    by_steps = zeroed and attention_mask is None and (not use_causal_mask or key_masks in ([], query_masks))
    if by_steps and key_masks != query_masks:
        projections[2] = _at_shown_steps(scope, projections[2], key_masks)
    scaled = scope.add("Mul", projections[0], scope.scalar(key_dim**-0.5))
    q, k, v = (_heads(scope, name, num_heads, perm)
               for name, perm in zip((scaled, *projections[1:]), ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3))))
    softmax = scope.add("Softmax", _hidden(scope, scope.add("MatMul", q, k), mask), axis=-1)
    weights = _hidden(scope, softmax, mask, 0.0) if zeroed else softmax
    heads = scope.add("Transpose", scope.add("MatMul", softmax if by_steps else weights, v), perm=(0, 2, 1, 3))
    joined = scope.add("Reshape", heads, scope.ints("joined", [0, 0, num_heads * value_dim]))
    joined = _at_shown_steps(scope, joined, query_masks if by_steps else [])
    kernel, *bias = take(scope.weights.child("output_dense"), kernel=(num_heads, value_dim, width),
                         **{"bias": (width,)} if use_bias else {})
    y = scope.add("MatMul", joined, scope.constant("output_kernel", kernel.reshape(-1, width)))
    for array in bias:
        y = scope.add("Add", y, scope.constant("output_bias", array))
    return [scope.tensor(y, _mask_of(query, query_mask)), *[scope.tensor(weights)] * return_attention_scores]


def _zeroes_hidden_weights(scope: Scope, dropout: float, return_scores: bool) -> bool:
    """Whether weights where a mask hides scores are 0, in rows that are hidden as a whole too. They are where Keras itself
    makes weights, with its layer Softmax since 3.10, and not where it leaves all to one function."""
    return scope.keras_version >= (3, 10) and (dropout > 0 or return_scores)


def _mask_of(x: Tensor, given: Tensor | None) -> str:
    return x.mask if given is None else given.name


def _output_width(output_shape: Union[list, int, None], query: Tensor) -> int:
    sizes = [query.width] if not output_shape else [output_shape] if isinstance(output_shape, int) else output_shape
    if len(sizes) != 1 or type(sizes[0]) is not int:
        raise UnsupportedError(f"output_shape={shown(output_shape)}")
    return sizes[0]


def _projected(scope: Scope, name: str, x: Tensor, heads: int, size: int, use_bias: bool) -> str:
    """(batch, steps, heads x size)"""
    kernel, *bias = take(scope.weights.child(name), kernel=(x.width, heads, size),
                         **{"bias": (heads, size)} if use_bias else {})
    y = scope.add("MatMul", scope.floats(x).name, scope.constant(f"{name}/kernel", kernel.reshape(x.width, -1)))
    for array in bias:
        y = scope.add("Add", y, scope.constant(f"{name}/bias", array.reshape(-1)))
    return y


def _heads(scope: Scope, x: str, heads: int, perm: tuple[int, ...]) -> str:
    """(batch, steps, heads x size) with the heads apart and the axes in the order `perm`."""
    size = scope.tensor(x).width // heads
    return scope.add("Transpose", scope.add("Reshape", x, scope.ints("heads", [0, 0, heads, size])), perm=perm)


ATTENTION: Mapping[str, Callable] = {
    "Attention": attention,
    "AdditiveAttention": additive_attention,
    "MultiHeadAttention": multi_head_attention,
}
