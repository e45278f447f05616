"""Which nodes of a graph can run as one native program.

The C core knows values as matrices: rows (batch, batch x time or time x batch) by a width. A graph's values have axes.
Within a program every axis of a value plays one role: it runs over the batch, over time, over the width, or it has
size 1 and means nothing; the width of an image, a row with all of its elements, is several axes. Where one sequence
attends to another of a length of its own, that one's time is the source.
A recurrent node fixes the roles of what it touches; every other node hands roles on between its inputs and outputs, in
both directions; a node that contradicts them does not belong to this program.
"""

from __future__ import annotations

from collections import ChainMap

from ..graph import Dim, Node
from .roles import (ACROSS, BATCH, DTYPES, ONE, ROWS, ROWS_OF_ONE, SOURCE, TIME, WIDTH, Contradiction, Facts, Roles, Tie,
                    width_of, without_widths)
from .ties import tie_of

_WIDEST = 1 << 28  # floats in a row


class Region:
    """A growing set of nodes that one native program can hold, in execution order."""

    is_flat = False

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.nodes: list[Node] = []
        self.roles: dict[str, Roles] = {}
        self._ties: list[Tie] = []
        self._touching: dict[str, list[Tie]] = {}
        self._sizes: dict[str, Dim] = {}

    def take(self, node: Node) -> bool:
        """Adds `node` if it can run natively and its roles and its batch and time sizes agree with the region's."""
        tie = tie_of(node, self.facts)
        if tie is None or not self._spread([tie], {}):
            return False
        self.nodes.append(node)
        self._ties.append(tie)
        for name in tie.names:
            self._touching.setdefault(name, []).append(tie)
        return True

    def settle(self) -> list[Node]:
        """Gives what no recurrent node reaches its usual roles; returns the nodes for which they do not work out."""
        return [node for node, tie in zip(self.nodes, self._ties) if not all(map(self._settle, tie.names))]

    def _settle(self, name: str) -> bool:
        return name in self.roles or self._spread(self._touching[name], {name: self._usual(name)})

    def _usual(self, name: str) -> Roles:
        """Floats have their width last; rows are batch, then time."""
        rank = len(self.facts.shape(name) or ())
        if self.facts.dtype(name) == "float32" and rank > 1:
            usual = (BATCH, TIME)[:rank - 1] + (ONE,) * (rank - 3) + (WIDTH,)
        else:
            usual = (BATCH, TIME)[:rank] + (ONE,) * (rank - 2)
        return self._without_single_steps(name, usual)

    def _without_single_steps(self, name: str, roles: Roles) -> Roles:
        """One time step is no axis: what has it can meet what never had any."""
        shape = self.facts.shape(name)
        if shape is None or len(shape) != len(roles):
            return roles
        return tuple(ONE if role == TIME and size == 1 else role for role, size in zip(roles, shape))

    def _spread(self, ties: list[Tie], new: dict[str, Roles]) -> bool:
        """Follows `ties` from the known and the `new` roles; keeps all of them if nothing is contradicted."""
        known, sizes = ChainMap(new, self.roles), dict(self._sizes)
        queue = list(ties)
        try:
            for name, roles in new.items():
                self._check(name, roles, sizes)
            while queue:
                tie = queue.pop()
                for name, roles in tie.imply(known).items():
                    roles = self._without_single_steps(name, roles)
                    if name not in known:
                        self._check(name, roles, sizes)
                        new[name] = roles
                        queue += [tie, *self._touching.get(name, ())]
                    elif known[name] != roles:
                        return False
        except Contradiction:
            return False
        self.roles.update(new)
        self._sizes = sizes
        return True

    def _check(self, name: str, roles: Roles, sizes: dict[str, Dim]) -> None:
        """Raises Contradiction unless a native value can have these roles and the region's `sizes`, which it fills."""
        shape = self.facts.shape(name)
        if shape is None or len(shape) != len(roles) or self.facts.dtype(name) not in DTYPES:
            raise Contradiction
        seen = tuple(role for role in roles if role != ONE and role not in ACROSS)
        rows = without_widths(seen)
        if rows not in ROWS and not (rows in ROWS_OF_ONE and sizes.get(BATCH) == 1):
            raise Contradiction
        if width_of(roles, shape) > _WIDEST or not ACROSS.keys().isdisjoint(roles[:-1]):
            raise Contradiction
        for role, size in zip(roles, shape):
            if (role == ONE and size != 1) or (role == WIDTH and not (isinstance(size, int) and size > 0)):
                raise Contradiction
            role = ACROSS.get(role, role)
            if role in (BATCH, TIME, SOURCE) and size is not None:
                if not self._same(sizes.setdefault(role, size), size):
                    raise Contradiction

    def _same(self, a: Dim, b: Dim) -> bool:
        """Sizes must be the same for sure, but the inputs of a first node fit one another by its own definition."""
        return a == b or (not self.nodes and not (isinstance(a, int) and isinstance(b, int)))
