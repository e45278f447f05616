"""Which formulas are one step of an LSTM, GRU or RNN, and with what weights.

    LSTM  h' = o * H(c')                c' = f * c + i * g, or with coupled gates (1 - i) * c + i * g
    GRU   h' = z * h + (1 - z) * g      or with the roles of z turned about; g resets h before or after its matrix
    RNN   h' = F(gate)

Each gate is an activation of a constant row and of read values times matrices; i, f and o may add a row times the state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..activations import Activation
from ..gates import ONNX, PEEPHOLES
from .symbolic import Activated, Formula, Multiplied, Read, Reader, formula


@dataclass(frozen=True)
class Gate:
    """bias (hidden,); value name -> its matrix (width, hidden), or, of `diagonal`, its row (hidden,)."""

    bias: np.ndarray
    matrices: Mapping[str, np.ndarray]
    diagonal: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One step. `h` and `c` name the states that it reads, None where that is not yet known or there is none; `new_c` the
    value that holds the next c, None where nobody else needs it. `functions` as in activations.py."""

    op: str
    hidden: int
    functions: tuple[Activation, ...]
    gates: Mapping[str, Gate]
    h: str | None = None
    c: str | None = None
    new_c: str | None = None
    reset: tuple[np.ndarray, np.ndarray] | None = None  # of a GRU's h gate: R (hidden, hidden) and its bias under r
    options: Mapping[str, int] = field(default_factory=dict)

    def reads(self) -> list[str]:
        """What the gates read through matrices, c aside."""
        names = dict.fromkeys(name for gate in self.gates.values() for name in gate.matrices)
        return list(names)

    def parts(self, name: str) -> dict[str, np.ndarray]:
        """What `name` is multiplied with for each gate that reads it, (width, hidden)."""
        found = {gate: self.gates[gate].matrices[name] for gate in ONNX[self.op]
                 if gate in self.gates and name in self.gates[gate].matrices}
        if name == self.h and self.reset is not None:
            found["h"] = self.reset[0]
        return found

    def matrix(self, name: str) -> np.ndarray | None:
        """The same as one ONNX weight (gates * hidden, width); None where it is not read."""
        found = self.parts(name)
        if not found:
            return None
        blank = np.zeros_like(next(iter(found.values())))
        return np.concatenate([found.get(gate, blank).T for gate in ONNX[self.op]])

    def bias(self) -> np.ndarray:
        """B (2 * gates * hidden,)."""
        blank = np.zeros(self.hidden)
        w = [self.gates[gate].bias if gate in self.gates else blank for gate in ONNX[self.op]]
        r = [self.reset[1] if gate == "h" and self.reset is not None else blank for gate in ONNX[self.op]]
        return np.concatenate(w + r)

    def peepholes(self) -> np.ndarray | None:
        """P (3 * hidden,), or None."""
        rows = [sum(self.gates[gate].diagonal.values()) if gate in self.gates and self.gates[gate].diagonal
                else np.zeros(self.hidden) for gate in PEEPHOLES]
        return np.concatenate(rows) if self.op == "LSTM" and any(row.any() for row in rows) else None


def cells(new_h: Formula, reader: Reader) -> Iterator[Cell]:
    """Every cell that `new_h` is one step of."""
    for match in (_lstm, _gru, _rnn):
        found = match(new_h, reader)
        if found is not None:
            yield found


def _terms(of: Formula) -> dict[frozenset, float] | None:
    """Factors -> their one coefficient, if all columns have the same coefficients and no factor comes twice."""
    found = {}
    for coefficients, factors in of.terms.values():
        if (coefficients != coefficients[0]).any() or len(set(map(_key, factors))) < len(factors):
            return None
        found[frozenset(map(_key, factors))] = float(coefficients[0])
    return found


def _key(factor) -> tuple:
    return factor.key


def _factors(of: Formula) -> dict[tuple, object]:
    return {factor.key: factor for _, factors in of.terms.values() for factor in factors}


def _is_state(factor, width: int) -> bool:
    return isinstance(factor, Read) and (factor.start, factor.stop) == (0, width)


# ---- RNN ----


def _rnn(new_h: Formula, reader: Reader) -> Cell | None:
    terms, factors = _terms(new_h), list(_factors(new_h).values())
    if terms is None or list(terms.values()) != [1.0] or len(factors) != 1 or not isinstance(factors[0], Activated):
        return None
    gate = _gate(factors[0].of, reader)
    return None if gate is None else Cell("RNN", new_h.width, (factors[0].activation,), {"h": gate})


# ---- LSTM ----


def _lstm(new_h: Formula, reader: Reader) -> Cell | None:
    terms, factors = _terms(new_h), list(_factors(new_h).values())
    if terms is None or list(terms.values()) != [1.0] or len(factors) != 2:
        return None
    if not all(isinstance(factor, Activated) for factor in factors):
        return None
    for output, squashed in (factors, factors[::-1]):
        new_c, name = squashed.of, None
        reads = list(_factors(new_c).values())
        if len(new_c.terms) == 1 and len(reads) == 1 and _is_state(reads[0], new_h.width):
            name = reads[0].name
            new_c = reader.inside(name)
        found = _lstm_with(new_h.width, output, squashed.activation, new_c, name, reader)
        if found is not None:
            return found
    return None


def _lstm_with(hidden: int, output: Activated, h_function: Activation, new_c: Formula, name: str | None,
               reader: Reader) -> Cell | None:
    terms, factors = _terms(new_c), _factors(new_c)
    states = [factor for factor in factors.values() if _is_state(factor, hidden)]
    if terms is None or len(states) != 1 or not 2 <= len(terms) <= 3:
        return None
    (c,) = states
    added = [[factors[key] for key in keys] for keys, coefficient in terms.items()
             if c.key not in keys and coefficient == 1 and len(keys) == 2]
    kept = {keys - {c.key}: coefficient for keys, coefficient in terms.items() if c.key in keys}
    if len(added) != 1 or not all(isinstance(factor, Activated) for factor in added[0]):
        return None
    for i, g in (added[0], added[0][::-1]):
        forgets = [factors[key] for keys in kept for key in keys]
        coupled = kept == {frozenset(): 1.0, frozenset({i.key}): -1.0}
        if i.activation != output.activation or not (coupled or (
                list(kept.values()) == [1.0] and len(forgets) == 1 and isinstance(forgets[0], Activated)
                and forgets[0].activation == i.activation)):
            continue
        activated = {"i": i, "o": output, "c": g} | ({} if coupled else {"f": forgets[0]})
        gates = {letter: _gate(factor.of, reader, {"i": c.name, "f": c.name, "o": name}.get(letter))
                 for letter, factor in activated.items()}
        if None not in gates.values():
            return Cell("LSTM", hidden, (i.activation, g.activation, h_function), gates, c=c.name, new_c=name,
                        options={"input_forget": 1} if coupled else {})
    return None


# ---- GRU ----


def _gru(new_h: Formula, reader: Reader) -> Cell | None:
    terms, factors = _terms(new_h), _factors(new_h)
    states = [factor for factor in factors.values() if _is_state(factor, new_h.width)]
    if terms is None or len(terms) != 3 or len(states) != 1:
        return None
    (h,) = states
    activated = [factor for factor in factors.values() if isinstance(factor, Activated)]
    if len(activated) != 2:
        return None
    for z, g in (activated, activated[::-1]):
        if terms == {frozenset({z.key, h.key}): 1.0, frozenset({g.key}): 1.0, frozenset({z.key, g.key}): -1.0}:
            return _gru_with(z, g, h.name, reader)
        if terms == {frozenset({h.key}): 1.0, frozenset({z.key, h.key}): -1.0, frozenset({z.key, g.key}): 1.0}:
            turned = _complement(z)
            return None if turned is None else _gru_with(turned, g, h.name, reader)
    return None


def _complement(z: Activated) -> Activated | None:
    """1 - z as one activation, where there is one."""
    minus = z.of.scaled(np.full(z.of.width, -1.0))
    if z.activation.function == "Sigmoid":
        return Activated(z.activation, minus)
    if z.activation.function == "HardSigmoid":
        shift = np.full(z.of.width, (1 - 2 * z.activation.beta) / z.activation.alpha)
        return Activated(z.activation, minus + formula(z.of.width, [(shift, ())]))
    return None


def _gru_with(z: Activated, g: Activated, h: str, reader: Reader) -> Cell | None:
    """With the reset gate found inside g: r * (h R + b), or (r * h) R."""
    outside, inside = [], []
    for coefficients, factors in g.of.terms.values():
        parts = list(factors[0].factors) if len(factors) == 1 and isinstance(factors[0], Multiplied) else list(factors)
        (inside if any(isinstance(part, Activated) for part in parts) else outside).append((coefficients, factors))
    found = _reset(inside, h, g.of.width)
    if found is None:
        return None
    r, matrix, bias, linear = found
    gates = {"z": _gate(z.of, reader), "r": _gate(r.of, reader), "h": _gate(formula(g.of.width, outside), reader)}
    if None in gates.values() or r.activation != z.activation or h in gates["h"].matrices:
        return None
    return Cell("GRU", g.of.width, (z.activation, g.activation), gates, h=h, reset=(matrix, bias),
                options={"linear_before_reset": 1} if linear else {})


def _reset(terms: list, h: str, hidden: int) -> tuple[Activated, np.ndarray, np.ndarray, bool] | None:
    """The reset gate, R (hidden, hidden) and the bias under r, of the terms that it is in, and whether R comes first."""
    matrix, bias, gates, linear = None, np.zeros(hidden), {}, True
    for coefficients, factors in terms:
        if len(factors) == 1 and isinstance(factors[0], Multiplied):  # (r * h) R
            linear, product, factors = False, factors[0].matrix.scaled(coefficients).array, factors[0].factors
        else:
            product = next((f.matrix.scaled(coefficients).array for f in factors if isinstance(f, Multiplied)), None)
            states = [f.factors for f in factors if isinstance(f, Multiplied)]
            factors = [f for f in factors if not isinstance(f, Multiplied)] + [f for pair in states for f in pair]
        gates |= {f.key: f for f in factors if isinstance(f, Activated)}
        rest = [f for f in factors if not isinstance(f, Activated)]
        if product is None and not rest:
            bias = bias + coefficients
        elif matrix is None and len(rest) == 1 and _is_state(rest[0], hidden) and rest[0].name == h:
            matrix = product
        else:
            return None
    if matrix is None or len(gates) != 1 or len(terms) > 2 or (not linear and len(terms) > 1):
        return None
    return next(iter(gates.values())), matrix, bias, linear


# ---- gates ----


def _gate(of: Formula, reader: Reader, state: str | None = None) -> Gate | None:
    """`of` as a Gate, if it is linear in read values; `state` may be multiplied with a row."""
    matrices: dict[str, np.ndarray] = {}
    diagonal: dict[str, np.ndarray] = {}
    for coefficients, factors in of.terms.values():
        if not factors:
            continue
        source, product = factors[0], None
        if isinstance(source, Multiplied) and len(source.factors) == 1:
            source, product = source.factors[0], source.matrix.scaled(coefficients).array
        if len(factors) > 1 or not isinstance(source, Read) or source.is_mask:
            return None
        if product is None and source.name == state and _is_state(source, of.width):
            diagonal[state] = coefficients
            continue
        product = np.diag(coefficients) if product is None else product
        matrix = _placed(product, source, reader)
        matrices[source.name] = matrices[source.name] + matrix if source.name in matrices else matrix
    return Gate(of.constant, matrices, diagonal)


def _placed(product: np.ndarray, source: Read, reader: Reader) -> np.ndarray:
    """The rows of a part of a value among those of the whole."""
    if source.stop - source.start == reader.width(source.name):
        return product
    matrix = np.zeros((reader.width(source.name), product.shape[1]))
    matrix[source.start:source.stop] = product
    return matrix
