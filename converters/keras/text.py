"""TextVectorization and StringLookup: what they do becomes a TextInput, and the model's input their ids."""

from __future__ import annotations

import string
from typing import Literal, Union

from ...errors import ModelFileError, UnsupportedError
from ...text_inputs import TextInput
from ...tokenizers import WHITESPACE, Tokenizer
from .builder import Scope, Tensor
from .json import shown

VOCABULARY = "vocabulary.txt"
UNKNOWN = "[UNK]"
LOWERED = ("lower", "lower_and_strip_punctuation")
STRIPPED = ("strip_punctuation", "lower_and_strip_punctuation")


def text_vectorization(scope: Scope, x: Tensor, *,
                       standardize: Literal["lower", "strip_punctuation", "lower_and_strip_punctuation", None] = None,
                       split: Literal["whitespace", "character", None] = None, output_mode: Literal["int"] = "int",
                       output_sequence_length: Union[int, None] = None, vocabulary: Union[list, None] = None,
                       vocabulary_size: Union[int, None] = None, max_tokens: Union[int, None] = None,
                       pad_to_max_tokens: bool = False, sparse: Literal[False] = False, ragged: Literal[False] = False,
                       encoding: Literal["utf-8"] = "utf-8") -> Tensor:
    """Texts (batch,) or (batch, 1) as rows of ids: 0 behind the end, 1 for what is unknown."""
    if split is None:
        raise UnsupportedError("with split=None")
    tokens = _vocabulary(scope, vocabulary, vocabulary_size, special=["", UNKNOWN])
    tokenizer = Tokenizer(
        _numbered(tokens), char_level=split == "character", lower=standardize in LOWERED, ascii_case=True,
        deleted=string.punctuation if standardize in STRIPPED else "", filters=WHITESPACE, oov_token=UNKNOWN)
    shape = (x.shape[0], output_sequence_length or "time")
    return scope.builder.take_text(x, TextInput(tokenizer, texts=True, length=output_sequence_length), shape)


def string_lookup(scope: Scope, x: Tensor, *, oov_token: str = UNKNOWN, mask_token: Union[str, None] = None,
                  num_oov_indices: Literal[0, 1] = 1, output_mode: Literal["int"] = "int", invert: Literal[False] = False,
                  vocabulary: Union[list, None] = None, vocabulary_size: Union[int, None] = None,
                  max_tokens: Union[int, None] = None, pad_to_max_tokens: bool = False, sparse: Literal[False] = False,
                  encoding: Literal["utf-8"] = "utf-8", oov_method: str = "floormod") -> Tensor:
    """The id of each token."""
    special = [mask_token] * (mask_token is not None) + [oov_token] * num_oov_indices
    tokens = _vocabulary(scope, vocabulary, vocabulary_size, special)
    lengths = {len(token) for token in tokens if token not in special}
    tokenizer = Tokenizer(_numbered(tokens), char_level=lengths == {1}, filters=WHITESPACE,
                          oov_token=oov_token if num_oov_indices else None)
    return scope.builder.take_text(x, TextInput(tokenizer, texts=False), x.shape)


def _numbered(tokens: list[str]) -> dict[str, int]:
    vocabulary = {token: id for id, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens):
        twice = next(token for id, token in enumerate(tokens) if vocabulary[token] != id)
        raise ModelFileError(f"the vocabulary has {twice!r} twice")
    return vocabulary


# ---- vocabularies ----


def _vocabulary(scope: Scope, inline: list | None, size: int | None, special: list[str]) -> list[str]:
    """All tokens, the special ones in front: those in the configuration, or else in the layer's file."""
    if inline is None:
        written = scope.weights.asset(VOCABULARY)
        if written is None:
            raise ModelFileError(f"neither its configuration nor a file {VOCABULARY} says its vocabulary")
        tokens = split_lines(written, size, masked=special[:1] == [""])
    else:
        if not all(isinstance(token, str) for token in inline):
            raise UnsupportedError(f"with vocabulary={shown(inline)}, expected text")
        tokens = inline
    if tokens[:len(special)] != special:
        tokens = special + tokens
    if size is not None and len(tokens) != size:
        raise ModelFileError(f"vocabulary: expected {size} tokens, got {len(tokens)}")
    return tokens


def split_lines(written: bytes, size: int | None, masked: bool) -> list[str]:
    """The tokens of a file with one on each line. The token "\\n" makes two empty lines of itself, which `size` or a second
    empty line gives away; the empty token, which masks, can only be the first."""
    try:
        lines = written.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{VOCABULARY}: not UTF-8: {error}") from error
    first = 1 if masked and lines[0] == "" else 0
    for i in range(first, len(lines) - 1):
        if lines[i] == lines[i + 1] == "" and (size is None or len(lines) > size):
            lines[i:i + 2] = ["\n"]
            break
    return lines
