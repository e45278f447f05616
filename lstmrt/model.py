"""Models as an app sees them: load, convert, run, step, generate, save.

Generation and tokenizers are imported by those who use them: loading a model that lacks them should not wait for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import format, passes
from ._core import State
from .binding import as_dtype
from .compile import NativeStep, compile_graph, step_form
from .containers import is_array
from .errors import InputError, ModelFileError, UnsupportedError
from .format import ModelFile, SelfTest
from .generation_config import WINDOW_MODES, GenerationDefaults, is_encoder_decoder
from .graph import Graph, Value
from .operators import attributes, is_recurrent, named_inputs
from .paths import path_of
from .precision import check_precision, rounded
from .states import ArrayState, check_states, find_states, without_states

if TYPE_CHECKING:
    from .converters import ConfigSpec
    from .converters.keras_custom import CustomLayers
    from .generation import Prompt
    from .seq2seq.config import EncoderDecoderDefaults
    from .seq2seq.runner import Runner
    from .streams import Batch
    from .tokenizers import Tokenizer, TokenizerSpec

ONNX_EXTENSION = ".onnx"
FOREIGN_EXTENSIONS = (".keras", ".h5", ".hdf5", ".tflite", ".pb")
FEW_STEPS, ENOUGH_STEPS = 7, 64


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


def check_destination(destination: str | os.PathLike, force: bool) -> Path:
    """The path to write to. Raises InputError where there is a file, without `force`, or for a name that says another format."""
    destination = Path(path_of(destination, "destination"))
    if destination.suffix.lower() in FOREIGN_EXTENSIONS:
        raise InputError(f"{destination}: lstmrt writes .lstmrt and .onnx files, no {destination.suffix}")
    if os.path.lexists(destination) and not force:
        raise InputError(f"{destination} exists already: use force=True (--force) to replace it")
    return destination


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


def record(graph: Graph, batch: int = 2, seed: int = 0) -> SelfTest | None:
    """A random call and the float64 reference's answer to it; None where an operator has no reference.

    A model that needs more than FEW_STEPS, for a window of its own, or takes just one, gets those, or no call.
    """
    from . import reference

    for time in (FEW_STEPS, ENOUGH_STEPS, 1):
        try:
            inputs = random_inputs(graph, batch, time, seed)
            outputs = reference.run(graph, inputs)
        except UnsupportedError:
            return None
        except (ValueError, IndexError):
            continue
        return SelfTest(inputs, {value.name: outputs[value.name].astype(value.dtype) for value in graph.outputs})
    return None


def random_inputs(graph: Graph, batch: int, time: int, seed: int = 0) -> dict[str, np.ndarray]:
    """An array for every input: see `random_array`."""
    random, sizes = np.random.default_rng(seed), _free_sizes(graph, batch, time)
    return {value.name: random_array(value, vocabulary_of(graph, value), sizes, random) for value in graph.inputs}


def _free_sizes(graph: Graph, batch: int, time: int) -> dict[str, int]:
    """By name: those that converters of Keras files give, and those of what recurrent nodes read, whatever their names; of
    others a first axis is that of the batch."""
    sizes = {size: time for value in graph.inputs for size in value.shape or () if str(size).endswith("time")}
    sizes["batch"] = batch
    tensors = passes.infer_shapes(graph)
    for node in filter(is_recurrent, graph.nodes):
        x = tensors.get(named_inputs(node)["X"])
        if x is not None and x.shape is not None:
            axes = (batch, time) if attributes(node)["layout"] else (time, batch)
            for name, size in zip(x.shape, axes):
                sizes.setdefault(name, size)
    for value in graph.inputs:
        for axis, name in enumerate(value.shape or ()):
            sizes.setdefault(name, time if axis else batch)
    return sizes


def random_array(value: Value, vocabulary: int, sizes: Mapping[str, int], random: np.random.Generator) -> np.ndarray:
    """Something for an input: ids below `vocabulary` or normal floats; free sizes by name, 1 where they have none. Raises
    UnsupportedError for one that is no array."""
    if not is_array(value.dtype):
        raise UnsupportedError(f"input '{value.name}' is no array but {value.dtype}: nothing tells what to put in")
    shape = [size if isinstance(size, int) else sizes.get(size, 1) for size in value.shape or ()]
    if np.dtype(value.dtype).kind == "f":
        return random.standard_normal(shape).astype(value.dtype)
    return random.integers(0, vocabulary, shape).astype(value.dtype)


def vocabulary_of(graph: Graph, value: Value) -> int:
    """Rows of the smallest table that the ids index; 2 where none does."""
    tables = [node.inputs[0] for node in graph.nodes if node.op == "Gather" and node.inputs[1] == value.name]
    return min((len(graph.constants[name]) for name in tables if name in graph.constants), default=2)


class Model:
    """A loaded model. Any number of threads may use one; states belong to their callers. What it computes never changes, but
    where sizes are free and not all is native those of a few calls get programs of their own, which may round otherwise.

    inputs, outputs  name, dtype and shape of each
    text_inputs      inputs of ids that take arrays of text too, by name: a TextInput each
    tokenizer        what its ids mean, or None; decoder_tokenizer what an encoder-decoder's output means
    generation       how it turns ids into more ids, or None where nothing is known
    states           input name -> output name of the states that it takes and gives back: `step` carries them
    provenance       where it came from
    precision        of its weights: "f32", "bf16" or "int8"
    """

    def __init__(self, file: ModelFile, isa: str | None = None, threads: int | None = None) -> None:
        self._file, self._isa, self._threads = file, isa, threads
        self._executable = compile_graph(passes.load(file.graph), isa, threads=threads, precision=file.precision)
        self.states = find_states(file.graph) if file.states is None else dict(file.states)
        self._programs: list[NativeStep | None] = []  # `program`, where that was made: by several threads perhaps
        self._step_forms = {}  # batch size -> the step of compile.step_form
        self.graph = replace(file.graph, constants={})  # its nodes say what the model does; weights are packed
        self.inputs, self.outputs = file.graph.inputs, file.graph.outputs
        self.tokenizer: Tokenizer | None = file.tokenizer
        self.decoder_tokenizer: Tokenizer | None = file.decoder_tokenizer or file.tokenizer
        self.generation: GenerationDefaults | EncoderDecoderDefaults | None = file.generation
        self.text_inputs = dict(file.text_inputs)
        self.provenance = dict(file.provenance)
        self.precision = file.precision
        file.leave_memory()

    def __repr__(self) -> str:
        def shown(values: Sequence[Value]) -> str:
            return ", ".join(f"{value.name} {value.dtype} {value.shape}" for value in values)

        return f"<lstmrt.Model {self.graph.name!r}: {shown(self.inputs)} -> {shown(self.outputs)}>"

    def __reduce__(self) -> Any:
        raise TypeError("a model is neither copied nor pickled: threads share one, other processes load it from its file")

    @property
    def native(self) -> NativeStep | None:
        """The whole model as one native program, or None where NumPy or onnxruntime has a part in it."""
        return self._executable.native

    @property
    def program(self) -> NativeStep | None:
        """One native program with all states inside that goes by steps or tokens, or None: the model itself where it has no
        states as inputs, and else what it is without them, made when it is first wanted. Raises InputError where that is
        after release_source."""
        if not self._programs:
            self._programs.append(self._program_with_states())
        return self._programs[0]  # for all of them: states of one program are strangers to another

    def _program_with_states(self) -> NativeStep | None:
        native = self.native
        if self.states and native is not None:
            graph = without_states(self.source.graph, self.states)
            native = graph and compile_graph(
                passes.load(graph), self._isa, threads=self._threads, precision=self.precision).native
        return None if native is None or native.is_flat else native

    @property
    def segments(self):
        """What runs where, in order: compile.NativeStep, HostStep, ForeignStep and BranchStep."""
        return self._executable.segments

    @property
    def input_vocabulary(self) -> int | None:
        """How many ids the only input can hold, or None where it holds something else."""
        ports = self.program.input_ports if self.program else ()
        return ports[0].vocabulary if len(ports) == 1 else None

    @property
    def vocabulary_size(self) -> int:
        """How many ids the model can make: the width of its first output."""
        return self.program.output_ports[0].width

    # ---- runs ----

    def __call__(self, *inputs: Any) -> np.ndarray | tuple[np.ndarray, ...]:
        """The outputs for `inputs`, arrays in the model's input order: one array, or a tuple in its output order.

        Raises InputError where an input does not fit: what was expected and what came.
        """
        if len(inputs) != len(self.inputs):
            raise InputError(f"expected {len(self.inputs)} inputs ({', '.join(v.name for v in self.inputs)}), "
                             f"got {len(inputs)}")
        outputs = tuple(self.run({value.name: given for value, given in zip(self.inputs, inputs)}).values())
        return outputs[0] if len(outputs) == 1 else outputs

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The outputs by name, in the model's output order. Raises InputError as calling does."""
        return self._executable.run(self._with_ids(inputs) if self.text_inputs else inputs)

    def _with_ids(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """`inputs` with ids in place of the texts among them."""
        given = dict(inputs)
        for name in self.text_inputs.keys() & given.keys():
            array = np.asarray(given[name])
            if array.dtype.kind in "OSU":
                given[name] = self.text_inputs[name].ids(name, array)
        return given

    def new_state(self, batch_size: int = 1) -> State | ArrayState:
        """Zero states for `batch_size` sequences, for `step`; `copy()` and `reset()` are its methods.

        Raises InputError where an output of the model depends on later steps and the model gives no states back.
        """
        if not isinstance(batch_size, (int, np.integer)) or isinstance(batch_size, bool) or not 0 < batch_size < 2**63:
            raise InputError(f"batch_size: expected a number above 0, got {batch_size!r}")
        if self.states and not self._runs_in_core():
            return ArrayState((value for value in self.inputs if value.name in self.states), int(batch_size))
        native = self._steppable()
        native.check_batch(int(batch_size))
        return native.model.new_state(batch_size)

    def step(self, x: Any, state: State | ArrayState) -> np.ndarray | tuple[np.ndarray, ...]:
        """One time step of all rows; `state` goes on in place.

        x  ids (batch,) or features (batch, width): the input without its time axis. A model that takes its states as
           inputs may also get what it takes otherwise, perhaps many steps at once; where it has further inputs, x is a
           tuple of all but the states, or a mapping by name
        Returns each output that is no state, without the time axis if x has none; a tuple where there are several.
        """
        form = self._step_forms.get(state.batch_size) if type(state) is State else None
        made = None if form is None else form.step(state, x)
        if made is not None:
            return made
        if isinstance(state, ArrayState):
            return self._step_arrays(x, state)
        return self._step_in_core(x, state)

    def _step_arrays(self, x: Any, state: ArrayState) -> np.ndarray | tuple[np.ndarray, ...]:
        names = [value.name for value in self.inputs if value.name not in self.states]
        if not isinstance(x, Mapping):
            given = x if isinstance(x, tuple) else (x,)
            if len(given) != len(names):
                raise InputError(f"expected {len(names)} inputs beside the states ({', '.join(names)}), got {len(given)}")
            x = dict(zip(names, given))
        outputs = self._executable.run({**x, **state.arrays})
        state.arrays = {source: outputs.pop(target) for source, target in self.states.items()}
        made = tuple(outputs.values())
        return made[0] if len(made) == 1 else made

    def _step_in_core(self, x: Any, state: State) -> np.ndarray | tuple[np.ndarray, ...]:
        native = self._steppable()
        if not isinstance(state, State):
            raise InputError(f"state: expected what new_state gave, got {type(state).__name__}")
        if len(native.input_ports) != 1:
            raise InputError(f"step takes one input, the model has {len(native.input_ports)}")
        (port,) = native.input_ports
        form = self._step_forms.setdefault(state.batch_size, step_form(native, state.batch_size))
        (value,) = (value for value in self.inputs if value.name not in self.states)
        array = np.asarray(as_dtype(value, x), form.dtype, order="C")  # np.ascontiguousarray would give an id an axis
        if array.shape == form.shape:
            return form.step(state, array)
        if not self.states or array.shape != port.shape(state.batch_size, 1):
            raise InputError(f"input '{port.name}': expected shape {form.shape} for one step, got {array.shape}")
        made = form.step(state, array.reshape(form.shape))
        shapes = [port.shape(state.batch_size, 1) for port in native.output_ports]
        whole = tuple(np.reshape(y, shape) for y, shape in zip(made if isinstance(made, tuple) else (made,), shapes))
        return whole[0] if len(whole) == 1 else whole

    def _runs_in_core(self) -> bool:
        return self.program is not None and self.program.steppable

    def _steppable(self) -> NativeStep:
        if not self._runs_in_core():
            raise InputError("this model cannot run step by step: an output depends on later steps, "
                             "or a part of it does not run natively")
        return self.program

    # ---- generation ----

    def generate(self, prompt: Prompt | Sequence[Prompt], **options: Any) -> str | np.ndarray | list:
        """The continuation of `prompt`: text for text, an int64 array for ids, a list for a list of either. Those of a
        list are written side by side, each as it would be alone.

        An encoder-decoder gives what it makes of a source: of text, ids, rows of features, or a dict of these by input;
        its options are those of EncoderDecoderOptions.

        `options` are the fields of GenerationOptions: max_new_tokens=20, mode, window, do_sample, temperature, top_k,
        top_p, repetition_penalty, seed, eos_token_id, stop_strings, echo.
        Raises InputError for bad options, an empty prompt, ids outside the vocabulary, text without a tokenizer;
        UnsupportedError for a model that cannot generate.
        """
        if is_encoder_decoder(self.generation):
            from .seq2seq.generation import generate

            return generate(self, prompt, options)
        from . import generation

        given = generation.options_of(options)
        if not generation.is_list_of_prompts(prompt):
            return generation.generate(self._of_ids, prompt, given)
        from .streams import generate_together

        return generate_together(self._of_ids, prompt, given)

    def stream(self, prompt: Prompt, **options: Any) -> Iterator[str] | Iterator[int]:
        """As `generate`, in pieces as they are made: pieces of text for text, ids for ids."""
        if is_encoder_decoder(self.generation):
            from .seq2seq.generation import stream

            return stream(self, prompt, options)
        from . import generation

        return generation.stream(self._of_ids, prompt, generation.options_of(options))

    @cached_property
    def encoder_decoder(self) -> Runner:
        """The two halves of an encoder-decoder, made when first asked for. Raises UnsupportedError where the decoder cannot
        run step by step."""
        from .seq2seq.loading import halves_of
        from .seq2seq.runner import Runner

        return Runner(halves_of(self.source), self._isa, self._threads, self.precision)

    def batch(self, max_streams: int = 16, *, mode: str | None = None, window: int | None = None) -> Batch:
        """A streams.Batch: up to `max_streams` texts written side by side, which an app adds and drops between steps.

        Raises InputError where mode and model do not fit; UnsupportedError for a model that cannot generate.
        """
        from .streams import Batch

        if is_encoder_decoder(self.generation):
            raise UnsupportedError("an encoder-decoder's texts are not written in a batch: use generate")
        return Batch(self._of_ids, max_streams, mode, window)

    @cached_property
    def _of_ids(self) -> Model:
        """What generates: this model, or where it reads one-hot vectors the same behind a table of them."""
        from .one_hot import reads_one_hot, with_ids

        if self.generation is None or not reads_one_hot(self.graph):
            return self
        return Model(self.source._replace(graph=with_ids(self.source.graph), selftest=None), self._isa, self._threads)

    # ---- files ----

    @property
    def source(self) -> ModelFile:
        """What is saved: the canonical graph and all that goes with it. Raises InputError after release_source."""
        if self._file is None:
            raise InputError("the model's source was released: load it again to save or convert it")
        return self._file

    def save(self, path: str | os.PathLike) -> None:
        """Writes the model as `.lstmrt`, under a temporary name that is then renamed."""
        path, file = check_destination(path, force=True), self.source
        format.write(path, file if file.selftest else file._replace(selftest=record(file.graph)))

    def release_source(self) -> None:
        """Lets go of the weights as the file had them; the packed ones stay. The model cannot be saved afterwards, and has
        programs for sizes of its own only for those of calls before."""
        if is_encoder_decoder(self.generation):
            self.encoder_decoder.release_graphs()  # is made of them
        others = self.__dict__.get("_of_ids", self)
        if others is not self:
            others.release_source()
        self._executable.release_graph()
        self._file = None
