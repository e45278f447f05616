"""TensorFlow's checkpoints without TensorFlow: an index, which is a table of LevelDB's, and the files that it points into."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Union

import numpy as np

from ...errors import ModelFileError, UnsupportedError
from .weights import Shape, widened

INDEX = ".index"
MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER = 48  # bytes: two places of blocks, padding, the magic number
LARGEST_INDEX = 1 << 28
STRING, BFLOAT16 = 7, 14
DTYPES = {1: "<f4", 2: "<f8", 19: "<f2", BFLOAT16: "<u2"}  # TensorFlow's numbers

Message = Mapping[int, list]  # a protobuf message: the values of each field by its number


class Bundle:
    """The tensors of the checkpoint whose files begin with `prefix`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._entries = dict(_table(_whole(prefix + INDEX, LARGEST_INDEX)))
        self._shards = number(message(self._entries.pop(b"", b"")), 1)

    def tensor(self, key: str) -> BundledTensor:
        """The tensor `key`, of which nothing but its entry has been read."""
        if key.encode() not in self._entries:
            raise ModelFileError(f"the checkpoint has no '{key}'")
        entry = message(self._entries[key.encode()])
        sizes = [number(message(size), 1) for size in message(field_bytes(entry, 2)).get(2, [])]
        shard = f"{self._prefix}.data-{number(entry, 3):05}-of-{self._shards:05}"
        return BundledTensor(key, shard, number(entry, 1), tuple(sizes), number(entry, 4), number(entry, 5))


@dataclass(frozen=True)
class BundledTensor:
    """A variable that lies in a checkpoint."""

    key: str
    file: str
    dtype: int
    shape: Shape
    offset: int
    nbytes: int

    def read(self, name: str, integers: bool = False) -> np.ndarray:
        if self.dtype not in DTYPES:
            raise ModelFileError(f"{name}: expected floating-point weights, got TensorFlow's type {self.dtype}")
        dtype = np.dtype(DTYPES[self.dtype])
        expected = dtype.itemsize
        for size in self.shape:
            expected *= size
        if self.nbytes != expected:
            raise ModelFileError(f"{name}: {self.shape} is {expected} bytes, the checkpoint says {self.nbytes}")
        array = np.frombuffer(self._bytes(), dtype).reshape(self.shape)
        array = np.ascontiguousarray(widened(array) if self.dtype == BFLOAT16 else array, np.float32)
        array.flags.writeable = False
        return array

    def text(self) -> bytes:
        """The one string that the tensor is."""
        if self.dtype != STRING or self.shape != ():
            raise ModelFileError(f"'{self.key}': expected one string")
        data = self._bytes()
        length, start = varint(data, 0)
        start += 4  # a checksum
        if start + length != len(data):
            raise ModelFileError(f"'{self.key}': expected {length} bytes, got {len(data) - start}")
        return data[start:]

    def _bytes(self) -> bytes:
        if self.offset + self.nbytes > _size(self.file):
            raise ModelFileError(f"'{self.key}' lies behind the end of {os.path.basename(self.file)}")
        with open(self.file, "rb") as file:
            file.seek(self.offset)
            return file.read(self.nbytes)


def _whole(path: str, most: int) -> bytes:
    if _size(path) > most:
        raise ModelFileError(f"{os.path.basename(path)} has {_size(path)} bytes, expected {most} at most")
    with open(path, "rb") as file:
        return file.read()


def _size(path: str) -> int:
    if not os.path.isfile(path):
        raise ModelFileError(f"there is no file {os.path.basename(path)}")
    return os.path.getsize(path)


# ---- LevelDB's table ----


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All keys with their values: blocks of them, which a last block lists."""
    if len(data) < FOOTER or not data.endswith(MAGIC):
        raise ModelFileError("not the index of a checkpoint")
    at = len(data) - FOOTER
    for _ in range(2):  # of a block that says nothing of keys
        _, at = varint(data, at)
    for _, place in _block(data, *_place(data, at)):
        yield from _block(data, *_place(place, 0))


def _place(data: bytes, at: int) -> tuple[int, int]:
    offset, at = varint(data, at)
    size, _ = varint(data, at)
    return offset, size


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """A key repeats the beginning of the one before it; the block ends with places where none does, and their number."""
    block = data[offset:offset + size]
    if size < 4 or len(data) < offset + size + 5:
        raise ModelFileError("the index of the checkpoint is cut short")
    if data[offset + size]:
        raise UnsupportedError("a checkpoint whose index is compressed")
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")
    key, at = b"", 0
    while at < end:
        shared, at = varint(block, at)
        more, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + more + length > end:
            raise ModelFileError("the index of the checkpoint is damaged")
        key = key[:shared] + block[at:at + more]
        at += more + length
        yield key, block[at - length:at]


# ---- protobuf ----


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        if not 0 <= at < len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ModelFileError("damaged protobuf: a number without an end")


def message(data: bytes) -> Message:
    """The fields of a protobuf message: numbers, and bytes for all that is longer."""
    fields: dict[int, list[Union[int, bytes]]] = {}
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        wire = tag & 7
        if wire == 0:
            value, at = varint(data, at)
        elif wire in (1, 2, 5):
            length, at = varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            value, at = data[at:at + length], at + length
        else:
            raise ModelFileError("damaged protobuf: a field of an unknown kind")
        if at > len(data):
            raise ModelFileError("damaged protobuf: cut short")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def number(fields: Message, field: int) -> int:
    """A number; 0 is not written."""
    return _last(fields, field, 0)


def field_bytes(fields: Message, field: int) -> bytes:
    """A text or a message; an empty one is not written."""
    return _last(fields, field, b"")


def _last(fields: Message, field: int, default):
    value = fields.get(field, [default])[-1]
    if not isinstance(value, type(default)):
        raise ModelFileError(f"damaged protobuf: field {field} is of another kind")
    return value


def messages(fields: Message, field: int) -> Sequence[Message]:
    """Each of a repeated message."""
    if not all(isinstance(value, bytes) for value in fields.get(field, [])):
        raise ModelFileError(f"damaged protobuf: field {field} is of another kind")
    return [message(value) for value in fields.get(field, [])]
