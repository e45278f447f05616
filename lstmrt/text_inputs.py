"""Inputs that take text: what Keras's TextVectorization and StringLookup do in front of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Union

import numpy as np

from .errors import InputError
from .tokenizers import Tokenizer

PAD_ID = 0


@dataclass(frozen=True)
class TextInput:
    """How the strings of one input become its ids.

    tokenizer  its tokens; what is unknown becomes its oov_token
    texts      True: each string is a text, which becomes a row of ids with padding behind; False: each is one token
    length     of those rows, which are cut off there; None: that of the longest text

    Raises InputError for values that are none of these.
    """

    tokenizer: Tokenizer
    texts: bool
    length: Union[int, None] = None

    def __post_init__(self) -> None:
        if not isinstance(self.texts, bool):
            raise InputError(f"text input: texts: expected a bool, got {self.texts!r}")
        if self.length is not None and not (type(self.length) is int and self.length > 0):
            raise InputError(f"text input: length: expected a number above 0, got {self.length!r}")

    def ids(self, name: str, strings: np.ndarray) -> np.ndarray:
        """int64 ids: of texts (batch,) or (batch, 1) rows (batch, length), of tokens their own shape.

        Raises InputError, which names the input, for another shape and for what is unknown where no id stands for that.
        """
        words = np.vectorize(_text, otypes=[object])(strings) if strings.size else strings
        if not self.texts:
            known = [self._token(name, word) for word in words.flat]
            return np.array(known, np.int64).reshape(strings.shape)
        if strings.ndim not in (1, 2) or strings.ndim == 2 and strings.shape[1] != 1:
            raise InputError(f"input '{name}': expected texts (batch,) or (batch, 1), got {strings.shape}")
        rows = [self.tokenizer.encode(text)[:self.length] for text in words.flat]
        ids = np.full((len(rows), self.length or max(map(len, rows), default=0)), PAD_ID, np.int64)
        for row, encoded in zip(ids, rows):
            row[:len(encoded)] = encoded
        return ids

    def _token(self, name: str, word: str) -> int:
        vocabulary = self.tokenizer.vocabulary
        if word not in vocabulary and self.tokenizer.oov_token is None:
            raise InputError(f"input '{name}': {word!r} is not in the vocabulary")
        return vocabulary.get(word, vocabulary.get(self.tokenizer.oov_token))

    def to_json(self) -> dict:
        """As a dict that `json` can write and `from_json` reads."""
        return {"tokenizer": json.loads(self.tokenizer.to_json()), "texts": self.texts, "length": self.length}

    @classmethod
    def from_json(cls, settings: Any) -> TextInput:
        """What `to_json` gave; raises InputError for anything else."""
        known = {field.name for field in fields(cls)}
        if not isinstance(settings, Mapping) or set(settings) != known:
            raise InputError(f"text input: expected an object with {', '.join(sorted(known))}, got {settings!r:.80}")
        return cls(**{**settings, "tokenizer": Tokenizer.from_json(json.dumps(settings["tokenizer"]))})


def _text(string: Any) -> str:
    """NumPy and TensorFlow hold texts as str or as UTF-8."""
    if isinstance(string, bytes):
        return string.decode("utf-8", "replace")
    if not isinstance(string, str):
        raise InputError(f"expected text, got {string!r:.80}")
    return string
