"""A model as an app has it: run, step, generate, save.

Generation is imported by those who use it: a model that is only run should not wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from . import format, passes
from ._core import State, step_by
from .errors import InputError, UnsupportedError
from .execution.binding import as_dtype
from .execution.compile import NativeStep, compile_graph, step_form
from .execution.roles import ONE, TIME
from .format import ModelFile
from .generation_config import GenerationDefaults, is_encoder_decoder
from .graph import Value
from .paths import check_destination
from .random_calls import record
from .states import ArrayState, find_states, without_states

if TYPE_CHECKING:
    from .execution.native import Port
    from .generation import Prompt
    from .seq2seq.config import EncoderDecoderDefaults
    from .seq2seq.runner import Runner
    from .streams import Batch
    from .tokenizers import Tokenizer


SHOWN = 5  # layers in a message


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
        self._step_forms = {}  # batch size -> compile.step_form
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
        outputs = self._executable.call_again(inputs)
        if outputs is None:
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
           inputs may also get what it takes otherwise, perhaps many steps at once. A mapping by name does too; where the
           model has further inputs it is that, or a tuple of all but the states
        Returns each output that is no state, without the time axis if x has none; a tuple where there are several.
        """
        made = step_by(self._step_forms, state, x)
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
        if not isinstance(state, State):
            raise InputError(f"state: expected what new_state gave, got {type(state).__name__}")
        if self.states and not self._runs_in_core():
            raise InputError("this state belongs to another model")
        native = self._steppable()
        if len(native.input_ports) != 1:
            raise InputError(f"step takes one input, the model has {len(native.input_ports)}")
        (port,) = native.input_ports
        if state.batch_size not in self._step_forms:
            self._step_forms[state.batch_size] = step_form(native, state.batch_size)
        (value,) = (value for value in self.inputs if value.name not in self.states)
        if isinstance(x, Mapping):
            if list(x) != [value.name]:
                raise InputError(f"expected the input '{value.name}', got {list(x)}")
            x = x[value.name]
        array = np.asarray(as_dtype(value, x), port.dtype, order="C")  # np.ascontiguousarray would give an id an axis
        shape = port.shape(state.batch_size, None)
        if array.shape == shape:
            return step_by(self._step_forms, state, array)
        axis = port.roles.index(TIME) if TIME in port.roles and array.ndim == len(port.roles) else None
        steps = 1 if axis is None else array.shape[axis]
        if not self.states or steps == 0 or array.shape != port.shape(state.batch_size, steps):
            raise InputError(f"input '{port.name}': expected shape {shape} for one step, got {array.shape}")
        native.explain((array,))  # before the state goes on
        parts = np.reshape(array if axis is None else np.moveaxis(array, axis, 0), (steps, *shape))
        made = [step_by(self._step_forms, state, part) for part in np.ascontiguousarray(parts)]
        outputs = zip(*made) if isinstance(made[0], tuple) else [made]
        whole = tuple(_over_time(port, ys, state.batch_size) for port, ys in zip(native.output_ports, outputs))
        return whole[0] if len(whole) == 1 else whole

    def _runs_in_core(self) -> bool:
        return self.program is not None and self.program.steppable

    def _steppable(self) -> NativeStep:
        if not self._runs_in_core():
            raise InputError(f"this model cannot run step by step: {self._what_needs_all_steps()}")
        return self.program

    def _what_needs_all_steps(self) -> str:
        layers = list(dict.fromkeys(f"'{node.name or node.outputs[0]}'" for segment in self.segments
                                    if segment.kind != "native" or segment.is_flat for node in segment.nodes))
        if not layers:
            return "an output depends on later steps"
        others = f" and {len(layers) - SHOWN} others" if len(layers) > SHOWN else ""
        return f"no native program of steps has {', '.join(layers[:SHOWN])}{others}"

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


def _over_time(port: Port, made: Sequence[np.ndarray], batch: int) -> np.ndarray:
    """What steps made of an output with all of its axes: of one without time, the last step's."""
    axes = [role for role in port.roles if role != ONE]
    y = np.stack(made, axes.index(TIME)) if TIME in axes else made[-1]
    return y.reshape(port.shape(batch, len(made)))
