"""What a model file needs to generate as an encoder-decoder: its parts, its tokenizers, the tokens that begin and end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import InputError, UnsupportedError
from ..format import ModelFile
from ..generation_config import GenerationDefaults, is_encoder_decoder
from ..tokenizers import Tokenizer, TokenizerSpec, load_tokenizer, token_id, token_ids
from .causality import check_steps
from .config import EncoderDecoderDefaults
from .halves import Halves, find_decoder_input, split
from .joining import join

# Tokens by which decoders are told to begin, each with the one that ends: where a vocabulary has exactly one of the pairs.
MARKS = (("<start>", "<end>"), ("[start]", "[end]"), ("start", "end"), ("<sos>", "<eos>"), ("sos", "eos"), ("<s>", "</s>"),
         ("<bos>", "<eos>"), ("bos", "eos"), ("[START]", "[END]"), ("startseq", "endseq"), ("<go>", "<eos>"), ("\t", "\n"))


def with_parts(file: ModelFile, decoder_input: str | None) -> ModelFile:
    """`file` with the settings of an encoder-decoder, where it is one or is said to be."""
    found = decoder_input or find_decoder_input(file.graph)
    if found is None:
        return file
    try:
        split(file.graph, found, {})
    except UnsupportedError:
        if decoder_input is None:
            return file
        raise
    return file._replace(generation=EncoderDecoderDefaults(found))


def with_decoder(encoder: ModelFile, decoder: ModelFile, decoder_input: str | None) -> ModelFile:
    """The encoder's and the decoder's file as one."""
    joined = join(encoder.graph, decoder.graph, decoder_input)
    provenance = {**encoder.provenance, "decoder": decoder.provenance.get("source", "")}
    settings = EncoderDecoderDefaults(joined.decoder_input, joined.states)
    return ModelFile(joined.graph, encoder.tokenizer, settings, provenance, decoder_tokenizer=decoder.tokenizer)


def with_settings(file: ModelFile, decoder_tokenizer: TokenizerSpec | None,
                  settings: Mapping[str, Any] | None) -> ModelFile:
    """`file` with these settings in place of its own; tokens by name become ids, where none is given the usual ones do."""
    if not isinstance(settings, (Mapping, type(None))):
        raise InputError(f"generation: expected a mapping of settings, got {type(settings).__name__}")
    if not is_encoder_decoder(file.generation):
        if decoder_tokenizer is not None:
            raise InputError("decoder_tokenizer: the model is no encoder-decoder, or decoder_input= has to say what its "
                             "decoder reads")
        return file if settings is None else file._replace(generation=_changed(file, settings))
    if decoder_tokenizer is not None:
        file = file._replace(decoder_tokenizer=load_tokenizer(decoder_tokenizer))
    tokenizer = file.decoder_tokenizer or file.tokenizer
    settings = dict(settings or {})
    for name, to_ids in (("decoder_start_token_id", token_id), ("eos_token_id", token_ids)):
        if name in settings:
            settings[name] = to_ids(tokenizer, settings[name], name)
    chosen = _changed(file, settings)
    if tokenizer is not None and chosen.decoder_start_token_id is None:
        chosen = _marked(chosen, tokenizer)
    return file._replace(generation=chosen)


def _changed(file: ModelFile, settings: Mapping[str, Any]) -> GenerationDefaults | EncoderDecoderDefaults:
    extra = sorted({"decoder_start_token_id", "eos_token_id"} & set(settings))
    if extra and not is_encoder_decoder(file.generation):
        raise InputError(f"{' and '.join(extra)}: for encoder-decoders, and this model is none, or decoder_input= has to say "
                         "what its decoder reads")
    if file.generation is None:
        raise InputError("generation: nothing tells how this model generates: give mode=, or of an encoder-decoder "
                         "decoder_input= or decoder=")
    try:
        return replace(file.generation, **settings)
    except TypeError:
        known = ", ".join(type(file.generation).__dataclass_fields__)
        raise InputError(f"generation: unknown settings in {sorted(settings)}; known are {known}") from None


def _marked(settings: EncoderDecoderDefaults, tokenizer: Tokenizer) -> EncoderDecoderDefaults:
    known = [pair for pair in MARKS if all(mark in tokenizer.vocabulary for mark in pair)]
    if len(known) != 1:
        return settings
    start, end = (tokenizer.vocabulary[mark] for mark in known[0])
    return replace(settings, decoder_start_token_id=start, eos_token_id=settings.eos_token_id or (end,))


def checked(file: ModelFile, sure: bool) -> ModelFile:
    """`file`, without its settings where its decoder cannot run step by step; where it is `sure` to be an encoder-decoder
    UnsupportedError says why."""
    try:
        halves_of(file)
    except UnsupportedError:
        if sure:
            raise
        return file._replace(generation=None)
    return file


def halves_of(file: ModelFile) -> Halves:
    """The two halves, known to give step by step what the whole gives. Raises UnsupportedError where they do not."""
    settings: EncoderDecoderDefaults = file.generation
    halves = split(file.graph, settings.decoder_input, settings.states)
    if not settings.states:
        check_steps(file.graph, halves)
    return halves
