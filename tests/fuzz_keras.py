"""Damages small Keras files, by bytes and by sense, and sees that lstmrt reads or refuses each: `make fuzz-keras`.

    python tests/fuzz_keras.py [SECONDS] [SEED]

Files are loaded in a process of its own with a limit on memory and time. What is no error of ours, a crash, a hang or too much
memory is a fault, printed with the seed that makes it again. libhdf5 itself may hang or crash on changed bytes of a bare HDF5
file (README, Limits): those are counted, not faults.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "keras"
PATIENCE = 20  # seconds for one file
MEMORY = 1 << 30  # bytes more than the process began with
ADDRESSES = 8 << 30  # bytes of addresses that each of the two processes may have


# ---- damage ----


def bytes_changed(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8, 64))):
        at = chance.randrange(len(changed))
        kind = chance.randrange(4)
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at:at + chance.choice((1, 4, 8))] = bytes([chance.choice((0, 1, 127, 128, 255))]) * 4
        elif kind == 2:
            other = chance.randrange(len(changed))
            changed[at:at + 16] = changed[other:other + 16]
        else:
            changed = changed[:max(at, 1)]
    return bytes(changed)


STRANGE = (None, True, False, 0, 1, -1, 2, 1 << 31, 1 << 62, -(1 << 63), 10 ** 30, 0.5, float("nan"), 1e308, "", "x", "a/b",
           "../x", "\0", "é" * 300, [], {}, [[]], [None], {"class_name": "Dense", "config": {}}, {"class_name": None},
           {"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}}, ["x", 0, 0])


def json_changed(text: str | bytes, chance: random.Random) -> str:
    document = [json.loads(text)]
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        places = _places(document)
        container, key = chance.choice(places)
        kind = chance.randrange(6)
        if kind <= 1:
            container[key] = chance.choice(STRANGE)
        elif kind == 2:
            other, key_of_other = chance.choice(places)
            container[key] = json.loads(json.dumps(other[key_of_other]))
        elif kind == 3 and container is not document:
            del container[key]
        elif kind == 4 and isinstance(container, list) and container is not document:
            container.insert(key, json.loads(json.dumps(container[key])))
        else:
            value = container[key]
            for _ in range(chance.choice((2, 40, 400))):
                value = [value] if chance.random() < 0.5 else {"class_name": "TimeDistributed", "config": {"layer": value}}
            container[key] = value
    return json.dumps(document[0])


def text_changed(text: bytes, chance: random.Random) -> bytes:
    return json_changed(text, chance).encode()


def _places(document: list) -> list[tuple[Any, Any]]:
    """(container, key) of each value in a document, the outermost first."""
    places, left = [], [document]
    while left:
        container = left.pop()
        keys = list(container) if isinstance(container, dict) else range(len(container))
        places += [(container, key) for key in keys]
        left += [container[key] for key in keys if isinstance(container[key], (dict, list))]
    return places


def hdf5_changed(data: bytes, chance: random.Random) -> bytes:
    stored = io.BytesIO(data)
    with h5py.File(stored, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(chance.choice((1, 1, 3))):
            path = chance.choice(names)
            if path in file:
                _change_node(file, path, chance)
    return stored.getvalue()


def _change_node(file: h5py.File, path: str, chance: random.Random) -> None:
    node = chance.choice((file, file[path], file[path].parent))
    kind = chance.randrange(6)
    if kind == 0:
        del file[path]
    elif kind == 1 and len(node.attrs):
        del node.attrs[chance.choice(list(node.attrs))]
    elif kind == 2:
        name = chance.choice([*node.attrs, "name", "layer_names", "weight_names", "keras_version", "model_config"])
        value = chance.choice(["", "x", b"\xff", 7, 1.5, np.zeros((2, 2)), ["a", "b"], np.array([b"x"] * 3), "[" * 999])
        node.attrs[name] = value
    elif kind == 3:
        del file[path]
        file[path] = chance.choice((h5py.SoftLink("/"), h5py.SoftLink("/" + path), h5py.ExternalLink("/etc/passwd", "/")))
    elif kind == 4 and isinstance(file[path], h5py.Dataset):
        shape = file[path].shape
        del file[path]
        shape = chance.choice((shape, shape[::-1], (*shape, 2), (), (0,), (1 << 34,), shape[:1]))
        dtype = chance.choice(("f4", "f8", "f2", "i4", "i1", "S3", "V2", "c8"))
        file.create_dataset(path, shape, dtype, chunks=(4096,) if shape == (1 << 34,) else None)
    else:
        del file[path]
        file[path] = np.zeros((2, 3), "f4")


def zip_changed(data: bytes, chance: random.Random) -> bytes:
    """The same archive with one member damaged, or missing, or twice."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = chance.choice(list(members))
    kind = chance.randrange(8)
    if kind == 0:
        del members[name]
    elif kind == 1:
        members[chance.choice(list(members))] = members[name]
    else:
        members[name] = damaged(name, members[name], chance)[0]
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return stored.getvalue()


def damaged(name: str, data: bytes, chance: random.Random) -> tuple[bytes, bool]:
    """The file with some damage, and whether libhdf5 sees changed bytes of a bare file."""
    by_sense: Callable = bytes_changed
    if data.startswith(b"PK"):
        by_sense = zip_changed
    elif data.startswith(b"\x89HDF"):
        by_sense = hdf5_changed
    elif data.lstrip().startswith(b"{"):
        by_sense = text_changed
    if chance.random() < 0.25:
        return bytes_changed(data, chance), True
    return by_sense(data, chance), by_sense is zip_changed


def changed(sample: Seed, chance: random.Random) -> tuple[bytes, bytes | None, bool]:
    """A damaged file, the configuration to give with it, and whether libhdf5 sees changed bytes of a bare file."""
    if sample.config is not None and chance.random() < 0.5:
        return sample.data, json_changed(sample.config, chance).encode(), False
    data, raw = damaged(sample.name, sample.data, chance)
    return data, sample.config, raw


# ---- the process that loads ----


def worker(connection) -> None:
    import lstmrt

    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    while True:
        path, config = connection.recv()
        try:
            lstmrt.load(path, config=config)
            outcome = "read"
        except lstmrt.LstmrtError as error:
            outcome = "refused" if str(path) in str(error) else f"no path in the message: {error}"
        except BaseException:
            outcome = traceback.format_exc()
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - began
        connection.send(outcome if used < MEMORY else f"{outcome}: took {used >> 20} MB")


class Loader:
    """A worker that is replaced when it hangs or dies."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pipe, child = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=worker, args=(child,), daemon=True)
        self._process.start()
        child.close()

    def outcome(self, path: Path, config: str | None) -> str:
        try:
            self._pipe.send((path, config))
            if self._pipe.poll(PATIENCE):
                outcome = self._pipe.recv()
                if "took" in outcome:
                    self.close()
                    self._start()
                return outcome
            outcome = "hung"
        except (EOFError, OSError):
            outcome = "died"
        self.close()
        self._start()
        return outcome

    def close(self) -> None:
        self._process.kill()
        self._process.join()


# ---- the run ----


@dataclass
class Seed:
    """A sound file, and the configuration that it needs if it is weights alone."""

    name: str
    data: bytes
    config: bytes | None


def seeds() -> list[Seed]:
    found = []
    for archive in sorted(GOLDEN.glob("*.zip")):
        with zipfile.ZipFile(archive) as members:
            for name in members.namelist():
                if name.endswith((".keras", ".h5")) and "/" not in name and "_split_" not in name:
                    stem = name.split(".")[0]
                    alone = name.endswith((".weights.h5", ".only.h5"))
                    found.append(Seed(f"{archive.stem}/{name}", members.read(name),
                                      members.read(f"{stem}.json") if alone else None))
    return found


def main(seconds: float = 60, seed: int | None = None) -> int:
    first = random.SystemRandom().randrange(1 << 30) if seed is None else seed
    files, loader, counts, faults = seeds(), Loader(), {}, 0
    until = time.monotonic() + seconds
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))  # damage may say that a dataset is huge
    with tempfile.TemporaryDirectory() as folder:
        number = first
        while time.monotonic() < until:
            chance = random.Random(number)
            sample = chance.choice(files)
            try:
                data, config, raw = changed(sample, chance)
            except (ArithmeticError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError):  # h5py's limits
                number += 1
                continue
            path = Path(folder, "model")
            path.write_bytes(data)
            outcome = loader.outcome(path, None if config is None else config.decode())
            bare = raw and data.startswith(b"\x89HDF")
            if bare and (outcome in ("hung", "died") or "took" in outcome):
                outcome = "libhdf5"
            if outcome not in ("read", "refused", "libhdf5"):
                faults += 1
                print(f"seed {number}: {sample.name}: {outcome}", flush=True)
            word = outcome if len(outcome) < 10 else "fault"
            counts[word] = counts.get(word, 0) + 1
            number += 1
    loader.close()
    print(f"{number - first} files from seed {first}: {counts}; {faults} faults")
    return faults


if __name__ == "__main__":
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    sys.exit(min(main(float(sys.argv[1]) if len(sys.argv) > 1 else 60, int(sys.argv[2]) if len(sys.argv) > 2 else None), 1))
