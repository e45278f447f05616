"""Which of Keras's containers a path holds, told from what is in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Union

from ...errors import ModelFileError
from .. import HDF5, JSON, ZIP
from .archive import open_archive, open_folder, open_shards
from .file import KerasFile
from .hdf5 import open_hdf5_model
from .saved_model import open_checkpoint, open_saved_model


def open_container(path: str, start: bytes, config: Union[Mapping[str, Any], None]) -> AbstractContextManager[KerasFile]:
    """The folder or file at `path`; a file begins with `start`. Raises ModelFileError for one that needs a `config`."""
    if os.path.isdir(path):
        is_saved_model = os.path.exists(os.path.join(path, "saved_model.pb"))
        return (open_saved_model if is_saved_model else open_folder)(path, config)
    if start.startswith(ZIP):
        return open_archive(path, config)
    if start.startswith(HDF5):
        return open_hdf5_model(path, config)
    if not start.startswith(JSON):
        return open_checkpoint(path, config)
    if config is None:
        raise ModelFileError("JSON, which holds no weights: a model's configuration goes beside its weights, as config= "
                             "(--config); a list of files of weights needs one")
    return open_shards(path, config)
