"""Which nodes run where: a graph's nodes in segments of native, NumPy and onnxruntime work.

Each node goes to the earliest segment of its kind that has all it needs; regions.py and flat.py say which nodes fit
together in a native one. Where there are several ways to do it, estimates.py says which one takes least.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ..graph import Graph, Node, all_nodes
from ..onnx_proto import go_together
from ..operators import attributes, find, has_states, is_attention, is_dynamic_product, is_recurrent, named_inputs
from . import estimates
from .branches import is_choice
from .host_ops import hands_parts_on, is_exact
from .regions import Region
from .roles import Facts

if TYPE_CHECKING:
    from .flat import FlatRegion


class Segment(NamedTuple):
    """Nodes of one kind; `region` where they are native."""

    nodes: list[Node]
    region: Region | FlatRegion | None
    foreign: bool
    choice: bool = False  # an If with compiled branches


def segments(graph: Graph, facts: Facts, layers: bool, needs_runtime: bool) -> list[Segment]:
    """The fastest way that there is, as far as can be told ahead.

    layers         whether programs of convolutions, whose weights are float32, may have the weights of recurrent layers
    needs_runtime  whether only onnxruntime has some of the nodes
    """
    ways = _Ways(graph, facts)
    best = ways.settled(_Way(needs_runtime))
    if _is_one_program(best, facts):
        return best
    made = [best]
    layers = layers and all(isinstance(size, int) for value in graph.inputs for size in value.shape or (None,))
    if layers and not needs_runtime:
        made.append(ways.settled(_Way(False, True, layers=True)))
        if _is_one_program(made[-1], facts) and _estimated(made[-1], facts) < estimates.session(graph.nodes, facts):
            return made[-1]
    from .foreign import has_runtime

    if not needs_runtime:
        made.append(ways.settled(_Way(False, True)))
    is_settled = all(segment.region and _stays(segment, facts, _MIXED) for segment in made[-1])
    if needs_runtime or (has_runtime() and not is_settled):  # else it would be the same with onnxruntime
        made += [ways.settled(way) for way in _with_runtime(needs_runtime, layers)]
    return min(made, key=lambda one: _estimated(one, facts) + _favour(one, needs_runtime))


def _with_runtime(needs_runtime: bool, layers: bool) -> list[_Way]:
    """Those that are not the first one."""
    ways = [_MIXED, _MIXED._replace(margin=estimates.SESSION)]
    ways += [_MIXED._replace(margin=estimates.SESSION, layers=True)] if layers else []
    return [*([] if needs_runtime else [_Way(True)]), *ways, _Way(True, cells=True)]


def _estimated(made: list[Segment], facts: Facts) -> float:
    return sum(_estimate(segment, facts) for segment in made)


def _favour(made: list[Segment], needs_runtime: bool) -> float:
    """What onnxruntime has to save where it could be left out: loading it takes time and memory too."""
    return 0 if needs_runtime or not any(segment.foreign for segment in made) else estimates.SESSION / 2


def _is_one_program(made: list[Segment], facts: Facts) -> bool:
    """Whether there is one native segment, and nothing beside it but parts of its inputs and outputs."""
    others = [segment for segment in made if not segment.region]
    return len(others) >= len(made) - 1 and not any(segment.foreign or segment.choice for segment in others) and all(
        hands_parts_on(node, _dtypes(node, facts), facts.constants) for segment in others for node in segment.nodes)


def _dtypes(node: Node, facts: Facts) -> dict[str, str | None]:
    return {name: facts.dtype(name) for name in (*node.reads, *node.outputs)}


class _Way(NamedTuple):
    """`with_runtime`: onnxruntime gets everything that is not in a native program with a recurrent layer or an attention,
    as few large sessions cost less than many small steps between them; with `flat` programs, those that are estimated to
    be faster than it, or by no more than `margin` slower, keep their nodes: those would need a session of their own, perhaps.
    Without it, NumPy gets what is not native. With `layers` recurrent ones too are in `flat` programs, where they can; with
    `cells` onnxruntime gets those of a single step, which what stands around them may take longer to leave than to run."""

    with_runtime: bool
    flat: bool = False
    margin: float = 0.0
    layers: bool = False
    cells: bool = False


_MIXED = _Way(True, True)


def _estimate(segment: Segment, facts: Facts) -> float:
    if segment.region and segment.region.is_flat:
        return segment.region.microseconds()
    if segment.region:
        return estimates.native(segment.nodes, facts)
    if segment.foreign:
        return estimates.session(segment.nodes, facts)
    return sum(estimates.with_numpy(node, facts) for node in segment.nodes)


class _Ways:
    """Of one graph. What fits into a program of its own is tried once for all of them."""

    def __init__(self, graph: Graph, facts: Facts) -> None:
        self._graph, self._facts = graph, facts
        self._fits: dict[tuple[int, type], bool] = {}

    def settled(self, way: _Way) -> list[Segment]:
        """The nodes in segments whose native ones are known to work out."""
        facts = self._facts
        fitting = {id(node) for node in self._graph.nodes if find(node) is not None and not _goes_to_runtime(node, facts, way)
                   and any(self._fit(node, kind) for kind in _kinds(node, way))}
        while True:
            made = _Partition(self._graph, facts, way, fitting).segments
            native = [segment for segment in made if segment.region]
            odd = [node for segment in native for node in segment.region.settle()]
            if not odd:
                odd = [node for segment in native if _only_moves(segment, facts) for node in segment.nodes]
            if way.with_runtime and not odd:
                odd = [node for segment in native if not _stays(segment, facts, way) for node in segment.nodes]
            if not odd:
                return [_without_session(segment, facts) for segment in made]
            fitting.difference_update(map(id, odd))

    def _fit(self, node: Node, kind: type) -> bool:
        if (id(node), kind) not in self._fits:
            self._fits[id(node), kind] = kind(self._facts).take(node)
        return self._fits[id(node), kind]


def _goes_to_runtime(node: Node, facts: Facts, way: _Way) -> bool:
    return way.cells and is_recurrent(node) and _portable(node, facts)


def _kinds(node: Node, way: _Way) -> list[type]:
    """The kinds of region that may take a node, the one that is to begin with it first."""
    if not way.flat or _in_rows_alone(node, way):
        return [Region]
    from .flat import FlatRegion  # most models have no use for it

    return [FlatRegion, Region]


def _in_rows_alone(node: Node, way: _Way) -> bool:
    return _stays_native(node) and not (way.layers and is_recurrent(node))


def _stays_native(node: Node) -> bool:
    return has_states(node) or is_attention(node) or is_dynamic_product(node)


def _stays(segment: Segment, facts: Facts, way: _Way) -> bool:
    """Whether onnxruntime does not get the nodes of a native segment."""
    return any(map(_stays_native, segment.nodes)) or (
        way.flat and _estimate(segment, facts) <= estimates.in_session(segment.nodes, facts) + way.margin)


def _only_moves(segment: Segment, facts: Facts) -> bool:
    """Whether the segment does nothing that NumPy does not do at once."""
    if segment.region.is_flat:
        return False
    return all(hands_parts_on(node, _dtypes(node, facts), facts.constants) for node in segment.nodes)


def _without_session(segment: Segment, facts: Facts) -> Segment:
    """Left to NumPy where that takes no longer than a session for so little."""
    if not segment.foreign or any(find(node) is None for node in segment.nodes):
        return segment
    left = Segment(segment.nodes, None, False)
    return left if _estimate(left, facts) <= _estimate(segment, facts) else segment


class _Partition:
    """`segments` of all nodes; of those in `fitting`, by id, native ones where these agree."""

    def __init__(self, graph: Graph, facts: Facts, way: _Way, fitting: set[int]) -> None:
        self._facts, self._way = facts, way
        self._several_opsets = any(node.opset is not None and not node.domain for node in all_nodes(graph.nodes))
        self.segments = [Segment([], None, False)]  # what NumPy does with inputs comes first, so that it parts nothing
        made_in: dict[str, int] = {}  # value -> the segment that makes it
        for node in _by_turns(graph.nodes, fitting):
            earliest = max((made_in[name] for name in node.reads if name in made_in), default=0)
            index = self._native_place(node, earliest) if id(node) in fitting else None
            index = self._other_place(node, earliest) if index is None else index
            self.segments[index].nodes.append(node)
            made_in.update((name, index) for name in node.outputs if name)
        self.segments = [segment for segment in self.segments if segment.nodes]

    def _native_place(self, node: Node, earliest: int) -> int | None:
        """The index of the native segment that takes `node`, perhaps a new one at the end; None where none can."""
        for index in range(earliest, len(self.segments)):
            region = self.segments[index].region
            if region and not (region.is_flat and _in_rows_alone(node, self._way)) and region.take(node):
                return index
        for kind in _kinds(node, self._way):
            region = kind(self._facts)
            if region.take(node):
                return self._add(Segment([], region, False))
        return None

    def _other_place(self, node: Node, earliest: int) -> int:
        """The index of the segment of NumPy or onnxruntime that takes `node`; a new one at the end where none does, and for
        an If with compiled branches."""
        choice = is_choice(node, self._facts.tensors)
        foreign = not choice and (find(node) is None or (self._way.with_runtime and _portable(node, self._facts)))
        for index in range(earliest, len(self.segments)):
            segment = self.segments[index]
            if segment.foreign != foreign or segment.region or segment.choice or choice:
                continue
            if not (foreign and self._several_opsets) or go_together([*segment.nodes, node]):
                return index
        return self._add(Segment([], None, foreign, choice))

    def _add(self, segment: Segment) -> int:
        self.segments.append(segment)
        return len(self.segments) - 1


def _by_turns(nodes: tuple[Node, ...], fitting: set[int]) -> list[Node]:
    """`nodes` in an order that changes between native programs and the rest as seldom as can be: first the rest, as
    far as it needs no native result, then the native ones (`fitting`, by id) that need nothing more, and so on."""
    turns: list[int] = []  # of each node; native ones have odd turns
    made_in: dict[str, int] = {}
    for node in nodes:
        turn = max((made_in[name] for name in node.reads if name in made_in), default=0)
        turns.append(turn + (turn % 2 != (id(node) in fitting)))
        made_in.update((name, turns[-1]) for name in node.outputs if name)
    return [nodes[i] for i in sorted(range(len(nodes)), key=turns.__getitem__)]


_RARE = frozenset(("int16", "uint16", "uint32", "uint64"))
_OF_DOUBLES = frozenset(("Add", "Div", "Gemm", "MatMul", "Mul", "Sub"))


def _portable(node: Node, facts: Facts) -> bool:
    """Whether onnxruntime runs a node of the table as NumPy does: it knows no extensions, not all that recurrent nodes may
    be, few operators for the rarer dtypes, and at this opset not the dtypes that later ones added."""
    if node.domain:
        return False
    if is_recurrent(node):
        return _is_plain(node, facts)
    dtypes = {facts.dtype(name) for name in node.reads}
    if _RARE & dtypes or ("float64" in dtypes and not is_exact(node) and node.op not in _OF_DOUBLES):
        return False
    if node.op in ("ReduceMax", "ReduceMin"):
        return "bool" not in dtypes
    if node.op == "Mod":
        return bool(node.attributes.get("fmod")) or not (facts.dtype(node.inputs[0]) or "").startswith("float")
    return node.op != "BitShift" or not (facts.dtype(node.inputs[0]) or "").startswith("int")


def _is_plain(node: Node, facts: Facts) -> bool:
    """Whether a recurrent node takes one step and has nothing that onnxruntime reads otherwise or not at all."""
    given, x = named_inputs(node), facts.shape(node.inputs[0])
    options = set(node.attributes) - {"hidden_size", "direction", "linear_before_reset", "layout"}
    if options or attributes(node)["layout"] or given["sequence_lens"] or given.get("P"):
        return False
    return bool(x) and x[0] == 1 and facts.dtype(node.inputs[0]) == "float32" and all(given[name] in facts.constants for name in "WR")
