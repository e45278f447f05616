"""From a file to a model, and from one file to another.

Importers and tokenizers are imported by the files that need them: others should not wait for them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from . import format, passes
from .errors import InputError, ModelFileError
from .format import ModelFile
from .generation_config import WINDOW_MODES, GenerationDefaults, is_encoder_decoder
from .graph import Graph
from .model import Model
from .paths import ONNX_EXTENSION, check_destination, path_of
from .precision import check_precision, rounded
from .random_calls import record
from .states import check_states, find_states

if TYPE_CHECKING:
    from .converters import ConfigSpec
    from .converters.keras.custom import CustomLayers
    from .tokenizers import TokenizerSpec


def load(path: str | os.PathLike, *, config: ConfigSpec | None = None, tokenizer: TokenizerSpec | None = None,
         custom_layers: CustomLayers | None = None, mode: str | None = None,
         state: Mapping[str, str] | None = None, precision: str | None = None, isa: str | None = None,
         threads: int | None = None, decoder: str | os.PathLike | None = None,
         decoder_input: str | None = None, decoder_tokenizer: TokenizerSpec | None = None,
         generation: Mapping[str, Any] | None = None) -> Model:
    """The model in a `.keras`, `.h5`, `.onnx` or `.lstmrt` file; its content decides which, not its name.

    config      for a Keras file of weights alone: what `model.to_json()` gives, as text, a path to it, or a dict
    tokenizer   a path, dict or list (tokenizers.load_tokenizer); without one, what the file holds
    custom_layers  for a Keras file with layers of its own: their classes or names -> functions (docs/KERAS.md)
    mode        how generation reads its context, in place of what was inferred: see GenerationDefaults
    state       input name -> output name of states that the model takes and gives back, in place of those that are found
    precision   of the weights, "f32", "bf16" or "int8"; None: the file's
    isa         "scalar", "avx2", "avx512", "avx512_vnni", "avx512_bf16" or "amx", on AArch64 "scalar", "neon" or
                "neon_dot"; None: LSTMRT_ISA, or else the CPU's fastest
    threads     that one call may use at most; None: LSTMRT_NUM_THREADS, or else as many as there are processors that no
                other call is using. Results do not depend on it, and short calls use one
    generation  settings of the model, fields of GenerationDefaults or EncoderDecoderDefaults, by name

    Of an encoder-decoder:
    decoder            the decoder's file, where `path` is the encoder's: the usual two inference models
    decoder_input      the input that the decoder's tokens go into, where it is not found
    decoder_tokenizer  as `tokenizer`, for what comes out; without one `tokenizer` serves both sides

    Raises ModelFileError for a file that is damaged or no model, UnsupportedError for a model that asks for what
    lstmrt lacks, MissingDependencyError where h5py, onnx or onnxruntime would be needed, IsaError.
    """
    file = _opened(path, config, tokenizer, custom_layers, mode, decoder, decoder_input, decoder_tokenizer, generation)
    return Model(with_precision(_with_states(file, state), precision), isa, threads)


def convert(source: str | os.PathLike, destination: str | os.PathLike, *, config: ConfigSpec | None = None,
            tokenizer: TokenizerSpec | None = None, custom_layers: CustomLayers | None = None,
            mode: str | None = None, state: Mapping[str, str] | None = None, precision: str | None = None,
            force: bool = False, decoder: str | os.PathLike | None = None, decoder_input: str | None = None,
            decoder_tokenizer: TokenizerSpec | None = None, generation: Mapping[str, Any] | None = None) -> None:
    """Writes the model in `source` as `.lstmrt`, or as ONNX where `destination` ends in `.onnx`.

    Keywords are those of `load`; an ONNX file holds float32 alone. A file that is there already is replaced only with
    `force`. Nothing is left behind where it fails.
    Raises InputError and all that `load` does; UnsupportedError where ONNX cannot say what the model does.
    """
    destination = check_destination(destination, force)
    file = _opened(source, config, tokenizer, custom_layers, mode, decoder, decoder_input, decoder_tokenizer, generation)
    file = _with_states(file, state)
    if is_encoder_decoder(file.generation):
        from .seq2seq.loading import checked

        file = checked(file, sure=decoder is not None or decoder_input is not None)
    file = with_precision(file, precision)
    if destination.suffix.lower() == ONNX_EXTENSION:
        if precision not in (None, "f32"):
            raise InputError(f"{destination}: an ONNX file holds float32 weights, {precision} is for .lstmrt files")
        from .converters.to_onnx import write_onnx

        with format.replacing(destination) as temporary:
            write_onnx(file.graph, temporary)
    else:
        format.write(destination, file if file.selftest else file._replace(selftest=record(file.graph)))


def _opened(path: str | os.PathLike, config: ConfigSpec | None, tokenizer: TokenizerSpec | None,
            custom_layers: CustomLayers | None, mode: str | None, decoder: str | os.PathLike | None,
            decoder_input: str | None, decoder_tokenizer: TokenizerSpec | None,
            settings: Mapping[str, Any] | None) -> ModelFile:
    """What `load` and `convert` make of their keywords."""
    file = read(path, tokenizer, config, custom_layers)
    may_be_encoder_decoder = file.generation is None and not file.states and _inputs_beside_states(file.graph) > 1
    is_said_to_be = any(given is not None for given in (decoder, decoder_input, decoder_tokenizer, settings))
    if may_be_encoder_decoder or is_said_to_be or is_encoder_decoder(file.generation):
        from .seq2seq import loading

        if decoder is not None:
            file = loading.with_decoder(file, read(decoder, custom_layers=custom_layers), decoder_input)
        elif may_be_encoder_decoder or decoder_input is not None:
            file = loading.with_parts(file, decoder_input)
        file = loading.with_settings(file, decoder_tokenizer, settings)
    return file if mode is None else file._replace(generation=_with_mode(file, mode))


def _inputs_beside_states(graph: Graph) -> int:
    return len(graph.inputs) if len(graph.inputs) < 2 else len(graph.inputs) - len(find_states(graph))


def _with_states(file: ModelFile, state: Mapping[str, str] | None) -> ModelFile:
    return file if state is None else file._replace(states=check_states(file.graph, state))


def read(path: str | os.PathLike, tokenizer: TokenizerSpec | None = None, config: ConfigSpec | None = None,
         custom_layers: CustomLayers | None = None) -> ModelFile:
    """What `path` holds, in the canonical form that is saved."""
    path = path_of(path)
    try:
        is_ours = config is None and not custom_layers and os.path.isfile(path) and format.is_lstmrt(path)
        file = format.read(path) if is_ours else _imported(path, config, custom_layers)
        if tokenizer is None:
            return file
        from .tokenizers import load_tokenizer

        return file._replace(tokenizer=load_tokenizer(tokenizer))
    except OSError as error:
        raise ModelFileError(f"{error.filename or os.fspath(path)}: {error.strerror or error}") from error


def _imported(path: str | os.PathLike, config: ConfigSpec | None, custom_layers: CustomLayers | None) -> ModelFile:
    from importlib.metadata import version

    from .converters import load_source

    source = load_source(path, config, custom_layers)
    provenance = {"source": os.path.basename(path), "framework": source.framework, "version": source.version,
                  "lstmrt": version("lstmrt"), "selftest": "float64 reference"}
    if source.matching:
        provenance["weights matched"] = source.matching
    return ModelFile(passes.canonical(source.graph), generation=source.generation, provenance=provenance,
                     tokenizer=source.tokenizer, text_inputs=source.text_inputs)


def _with_mode(file: ModelFile, mode: str) -> GenerationDefaults:
    from .generation import check_masks, fixed_length

    if is_encoder_decoder(file.generation):
        raise InputError("mode: there is no such option for an encoder-decoder")
    check_masks(file.graph, mode)
    was = file.generation or GenerationDefaults("growing")
    return replace(was, mode=mode, window=(was.window or fixed_length(file.graph)) if mode in WINDOW_MODES else None)


def with_precision(file: ModelFile, precision: str | None) -> ModelFile:
    """`file` with its weights rounded to `precision`; None leaves it as it is. Raises InputError for one that is unknown,
    or that weights which are rounded already cannot have."""
    if precision is None or check_precision(precision) == file.precision:
        return file
    if precision == "f32":  # the rounded weights, in float32 from now on
        return file._replace(precision="f32", selftest=None)
    if file.precision != "f32":
        raise InputError(f"precision: the file's weights are {file.precision} already, convert its source to {precision}")
    return file._replace(graph=rounded(file.graph, precision), precision=precision, selftest=None)
