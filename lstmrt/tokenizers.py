"""Text to ids and back: Keras's `Tokenizer`, and plain vocabularies of characters or words.

Words are what stands between separators, and are joined by one space; characters are joined by nothing. An id that no
token has, or whose token is the empty string, has no text: so has 0, the padding, in Keras's vocabularies.
"""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, Union

from .errors import InputError, ModelFileError
from .paths import path_of

JSON_START = re.compile(r'\s*([\[{]\s*"|"\s*\{)')  # the last is Keras's text, written as JSON once more
SPECIAL = re.compile(r"<.+>|\[[A-Z]+\]|")  # <pad>, [UNK]: says nothing about the others being characters or words
KERAS_UNKNOWN = "[UNK]"  # the first token, behind the padding, of what a TextVectorization or StringLookup gives
WHITESPACE = "\t\n\v\f\r"
ASCII_CASE = {ord(upper): upper.lower() for upper in string.ascii_uppercase}
KINDS = {"char_level": bool, "lower": bool, "filters": str, "split": str, "ascii_case": bool, "deleted": str}
SINCE_LATER = ("ascii_case", "deleted")  # written only where they say something: files that do not need them stay as they were


@dataclass(frozen=True)
class Tokenizer:
    """What a model's ids mean.

    vocabulary  token -> id
    char_level  tokens are characters: `filters` and `split` do not count, and nothing stands between them
    lower       texts are put in lower case first
    ascii_case  of the letters A to Z alone, as TensorFlow does it
    deleted     characters that are left out
    filters     characters that are taken for `split`
    split       what stands between words in a text that comes in
    num_words   ids from this one on are taken for unknown in a text that comes in; None: no such limit
    oov_token   the token for what is unknown; None: it is left out

    Raises InputError for what cannot be a tokenizer.
    """

    vocabulary: Mapping[str, int]
    char_level: bool
    lower: bool = False
    filters: str = ""
    split: str = " "
    num_words: Union[int, None] = None
    oov_token: Union[str, None] = None
    ascii_case: bool = False
    deleted: str = ""

    def __post_init__(self) -> None:
        _check_vocabulary(self.vocabulary)
        object.__setattr__(self, "vocabulary", MappingProxyType(dict(self.vocabulary)))
        for name, kind in KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise InputError(f"tokenizer {name}: expected a {kind.__name__}, got {getattr(self, name)!r}")
        if not self.split:
            raise InputError("tokenizer split: expected what stands between words, got ''")
        if self.num_words is not None and not _is_id(self.num_words):
            raise InputError(f"tokenizer num_words: expected a number of words, got {self.num_words!r}")
        if self.oov_token is not None and self.oov_token not in self.vocabulary:
            raise InputError(f"tokenizer oov_token: expected a token of the vocabulary, got {self.oov_token!r}")

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, as Keras's `texts_to_sequences` gives them."""
        ids = (self._known(token) for token in self._tokens(text))
        return [id for id in ids if id is not None]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; those without text are left out."""
        text: list[str] = []
        for id in ids:
            if piece := self.piece(id, first=not text):
                text.append(piece)
        return "".join(text)

    def piece(self, id: int, first: bool) -> str:
        """What `id` adds to a text: pieces put together are what `decode` gives.

        `first` says that no text stands before it; a word begins with a space elsewhere. '' for an id without text.
        """
        text = self._texts.get(id, "")
        return text if first or self.char_level or not text else " " + text

    def textless_ids(self, vocabulary_size: int) -> tuple[int, ...]:
        """The ids without text among the `vocabulary_size` ids that a model knows, in rising order."""
        return tuple(id for id in range(vocabulary_size) if not self._texts.get(id))

    def to_json(self) -> str:
        """As JSON text that `from_json` reads."""
        document = {field.name: getattr(self, field.name) for field in fields(self)
                    if field.name not in SINCE_LATER or getattr(self, field.name)}
        return json.dumps({**document, "vocabulary": dict(self.vocabulary)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """The tokenizer that `to_json`, or Keras's `Tokenizer.to_json`, gave. Raises InputError for anything else."""
        document = _parse(text)
        if not isinstance(document, dict):
            raise InputError(f"tokenizer: expected a JSON object, got {_short(document)}")
        return _from_dict(document)

    @cached_property
    def _texts(self) -> dict[int, str]:
        return {id: token for token, id in self.vocabulary.items()}

    def _tokens(self, text: str) -> Sequence[str]:
        if self.lower:
            text = text.translate(ASCII_CASE) if self.ascii_case else text.lower()
        if self.deleted:
            text = text.translate(dict.fromkeys(map(ord, self.deleted)))
        if self.char_level:
            return text
        text = text.translate({ord(character): self.split for character in self.filters})
        return [word for word in text.split(self.split) if word]

    def _known(self, token: str) -> Union[int, None]:
        id = self.vocabulary.get(token)
        if id is None or (self.num_words is not None and id >= self.num_words):
            return self.vocabulary.get(self.oov_token)
        return id


def token_id(tokenizer: Union[Tokenizer, None], token: Any, what: str) -> Any:
    """The id of a token that is given by name; anything but a text is handed back. Raises InputError for unknown names."""
    if not isinstance(token, str):
        return token
    if tokenizer is None:
        raise InputError(f"{what}: {token!r} needs a tokenizer: give an id")
    if token not in tokenizer.vocabulary:
        raise InputError(f"{what}: the tokenizer has no token {token!r}")
    return tokenizer.vocabulary[token]


def token_ids(tokenizer: Union[Tokenizer, None], tokens: Any, what: str) -> tuple:
    """The ids of a token or of several, as token_id gives each."""
    given = tokens.tolist() if hasattr(tokens, "tolist") else tokens
    return tuple(token_id(tokenizer, token, what) for token in (given if isinstance(given, (list, tuple)) else [given]))


TokenizerSpec = Union[str, os.PathLike, Mapping, Sequence[str], Tokenizer]


def load_tokenizer(spec: TokenizerSpec) -> Tokenizer:
    """The tokenizer that `spec` describes.

    spec  a Tokenizer; a dict {token: id}; a list whose places are the ids; what `json.loads` makes of Keras's
          `Tokenizer.to_json()`; or the path of a file with one of these as JSON, or with one token a line (UTF-8)

    A plain vocabulary of single characters is one of characters (tokens like <pad> and [UNK] aside), any other one of
    words, which whitespace parts; tokens are taken as they stand, and what is unknown is left out.
    Raises InputError, ModelFileError where the fault is in a file, OSError if it cannot be opened.
    """
    if isinstance(spec, Tokenizer):
        return spec
    if isinstance(spec, Mapping):
        return _from_dict(spec)
    if isinstance(spec, (list, tuple)):
        return _from_list(spec)
    if not isinstance(spec, (str, os.PathLike)):
        raise InputError(f"tokenizer: expected a path, a dict, a list or a Tokenizer, got {type(spec).__name__}")
    path = path_of(spec, "tokenizer")
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            text = file.read()
        return load_tokenizer(_parse(text) if JSON_START.match(text) else _lines(text))
    except (InputError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: {error}") from None


def _lines(text: str) -> list[str]:
    """One token a line. Other characters that Python takes for line ends may be tokens."""
    lines = re.split("\r?\n", text)
    return lines[:-1] if lines[-1] == "" else lines


def _parse(text: str) -> Any:
    try:
        document = json.loads(text)
        return json.loads(document) if isinstance(document, str) else document
    except (ValueError, RecursionError) as error:
        raise InputError(f"tokenizer: not sound JSON: {error}") from None


def _from_dict(document: Mapping) -> Tokenizer:
    if document.get("class_name") == "Tokenizer":
        return _from_keras(document.get("config"))
    if isinstance(document.get("vocabulary"), dict):
        return _from_fields(document)
    return _plain(document)


def _from_keras(config: Any) -> Tokenizer:
    """Keras writes `word_index` as JSON inside JSON; what it counted while fitting does not matter any more."""
    if not isinstance(config, dict) or not isinstance(config.get("word_index"), str):
        raise InputError(f"tokenizer: expected a Keras Tokenizer's config with word_index, got {_short(config)}")
    known = ("char_level", "lower", "filters", "split", "num_words", "oov_token")
    options = {name: config[name] for name in known if name in config}
    options["num_words"] = options.get("num_words") or None
    if isinstance(options.get("filters"), list):
        options["filters"] = "".join(map(str, options["filters"]))
    return _from_fields({**options, "vocabulary": _parse(config["word_index"])})


def _from_fields(document: Mapping[str, Any]) -> Tokenizer:
    try:
        return Tokenizer(**document)
    except TypeError as error:
        raise InputError(f"tokenizer: {str(error).removeprefix('Tokenizer.__init__() ')}") from None


def _from_list(tokens: Sequence[str]) -> Tokenizer:
    vocabulary: dict[str, int] = {}
    for id, token in enumerate(tokens):
        if not isinstance(token, str):
            raise InputError(f"tokenizer: expected a list of tokens, got {_short(token)} at {id}")
        if token and token in vocabulary:
            raise InputError(f"tokenizer: {token!r} is there twice, at {vocabulary[token]} and {id}")
        vocabulary.setdefault(token, id)
    return _plain(vocabulary)


def _plain(vocabulary: Mapping[str, int]) -> Tokenizer:
    _check_vocabulary(vocabulary)
    lengths = {len(token) for token in vocabulary if not SPECIAL.fullmatch(token)}
    unknown = KERAS_UNKNOWN if vocabulary.get(KERAS_UNKNOWN) in (0, 1) else None
    return Tokenizer(vocabulary, char_level=lengths == {1}, filters=WHITESPACE, oov_token=unknown)


def _check_vocabulary(vocabulary: Any) -> None:
    if not isinstance(vocabulary, Mapping) or not vocabulary:
        raise InputError(f"tokenizer: expected a vocabulary, token by token, got {_short(vocabulary)}")
    owners: dict[int, str] = {}
    for token, id in vocabulary.items():
        if not isinstance(token, str) or not _is_id(id):
            raise InputError(f"tokenizer: expected tokens with ids of 0 or above, got {_short(token)}: {_short(id)}")
        if id in owners:
            raise InputError(f"tokenizer: {owners[id]!r} and {token!r} have the same id {id}")
        owners[id] = token


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
