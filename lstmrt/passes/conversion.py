"""The rewrites that a model goes through once, when it is converted: loading a `.lstmrt` file does not wait for them."""

from __future__ import annotations

from ..lifting.loops import lift_loops
from ..lifting.steps import lift_steps
from .choose_branches import choose_branches
from .collected_lists import collected_lists
from .drop_noops import drop_noops
from .drop_unused import drop_unused
from .fold_constants import fold_constants
from .input_weights import input_weights
from .joined_steps import joined_steps
from .layer_normalizations import layer_normalizations
from .plain_ids import plain_ids
from .plain_shapes import plain_shapes
from .single_steps import single_steps
from .whole_sequences import whole_sequences
from .zero_states import zero_states

CANONICAL = (fold_constants, choose_branches, plain_shapes, single_steps, plain_ids, drop_noops, collected_lists, lift_loops,
             lift_steps, layer_normalizations, joined_steps, whole_sequences, input_weights, zero_states, drop_unused)
