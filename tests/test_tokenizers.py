"""Tokenizers beside Keras's own, and the ways to describe one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstmrt.errors import InputError, ModelFileError
from lstmrt.tokenizers import Tokenizer, load_tokenizer

text = pytest.importorskip("tf_keras").preprocessing.text

WORDS = ("to", "be", "or", "not", "That", "is", "the", "QUESTION", "whether", "'tis", "nobler", "élan", "İ", "a-b",
         "<oov>")
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(WORDS + ("", ",", "\n", "!?")), max_size=15).map(" ".join),
)
SPLITS = st.sampled_from([" ", "-", "--", "o"])
FILTERS = st.sampled_from(['!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n', "", "aé,"])


@st.composite
def keras_tokenizers(draw):
    """A fitted tokenizer of Keras with any combination of options."""
    tokenizer = text.Tokenizer(
        num_words=draw(st.one_of(st.none(), st.integers(0, 12))),
        filters=draw(FILTERS),
        lower=draw(st.booleans()),
        split=draw(SPLITS),
        char_level=draw(st.booleans()),
        oov_token=draw(st.sampled_from([None, "<oov>", "to"])),
    )
    tokenizer.fit_on_texts(draw(st.lists(TEXTS, max_size=4)) + ["to be\nor <oov>"])
    return tokenizer


@given(keras_tokenizers(), TEXTS)
def test_ids_are_those_of_keras(oracle, sample):
    tokenizer = Tokenizer.from_json(oracle.to_json())
    assert tokenizer.encode(sample) == oracle.texts_to_sequences([sample])[0]


@given(keras_tokenizers(), st.lists(st.integers(0, 30), max_size=20))
def test_text_is_that_of_the_tutorial_loop(oracle, ids):
    """The loop looks each id up in `index_word` and puts a space between words."""
    tokenizer = load_tokenizer(json.loads(oracle.to_json()))
    words = [oracle.index_word[id] for id in ids if id in oracle.index_word]
    assert tokenizer.decode(ids) == ("" if oracle.char_level else " ").join(words)
    assert tokenizer.textless_ids(31) == tuple(id for id in range(31) if id not in oracle.index_word)


def test_decoded_words_are_those_of_keras():
    oracle = text.Tokenizer()
    oracle.fit_on_texts(["To be, or not to be: that is the question"])
    ids = oracle.texts_to_sequences(["that is not to be"])[0]
    assert Tokenizer.from_json(oracle.to_json()).decode(ids) == oracle.sequences_to_texts([ids])[0]


@given(keras_tokenizers(), st.lists(st.integers(0, 30), max_size=20))
def test_pieces_put_together_are_the_text(oracle, ids):
    tokenizer = Tokenizer.from_json(oracle.to_json())
    streamed = ""
    for id in ids:
        streamed += tokenizer.piece(id, first=not streamed)
    assert streamed == tokenizer.decode(ids)


@given(keras_tokenizers())
def test_json_gives_the_same_tokenizer(oracle):
    tokenizer = Tokenizer.from_json(oracle.to_json())
    assert Tokenizer.from_json(tokenizer.to_json()) == tokenizer


# ---- plain vocabularies ----


def test_a_word_begins_with_a_space_where_something_stands_before_it():
    tokenizer = load_tokenizer({"to": 1, "be": 2})
    assert [tokenizer.piece(1, first=True), tokenizer.piece(2, first=False), tokenizer.piece(0, first=False)] == [
        "to", " be", ""]


def test_words_are_parted_by_whitespace_and_taken_as_they_stand():
    tokenizer = load_tokenizer(["", "To", "be", "I"])
    assert tokenizer.encode("To\tbe  I\r\nbe to unknown") == [1, 2, 3, 2]
    assert tokenizer.decode([1, 0, 2]) == "To be"


def test_characters_are_joined_by_nothing():
    tokenizer = load_tokenizer({"<pad>": 0, "[UNK]": 4, "a": 1, " ": 2, "B": 3})
    assert tokenizer.encode("a Bab") == [1, 2, 3, 1]
    assert tokenizer.decode([1, 2, 3]) == "a B"


def test_one_longer_token_makes_words():
    assert not load_tokenizer(["", "a", "I", "is"]).char_level


def test_ids_without_text():
    tokenizer = load_tokenizer({"": 3, "to": 1, "be": 5})
    assert tokenizer.textless_ids(8) == (0, 2, 3, 4, 6, 7)
    assert tokenizer.textless_ids(2) == (0,)


def test_a_vocabulary_does_not_follow_its_source():
    source = {"a": 1, "b": 2}
    tokenizer = load_tokenizer(source)
    source["c"] = 3
    assert tokenizer.encode("abc") == [1, 2]


def test_a_tokenizer_stands_for_itself():
    tokenizer = load_tokenizer(["", "a"])
    assert load_tokenizer(tokenizer) is tokenizer


# ---- files ----


def keras_json() -> str:
    tokenizer = text.Tokenizer(oov_token="<oov>")
    tokenizer.fit_on_texts(["to be or not to be"])
    return tokenizer.to_json()


@pytest.mark.parametrize("content", [
    keras_json(),
    json.dumps(keras_json()),
    json.dumps(json.loads(keras_json()), indent=2),
    "\ufeff" + keras_json(),
    Tokenizer.from_json(keras_json()).to_json(),
], ids=["keras", "written twice", "indented", "byte order mark", "ours"])
def test_a_file_of_a_tokenizer(tmp_path, content):
    path = tmp_path / "tokenizer"
    path.write_text(content, encoding="utf-8")
    assert load_tokenizer(path) == load_tokenizer(str(path)) == Tokenizer.from_json(keras_json())


@pytest.mark.parametrize("content", [
    '["", "{", "é", "\\""]', '{"{": 1, "é": 2, "\\"": 3}', '\n{\r\né\r\n"\r\n', '\n{\né\n"',
], ids=["list", "dict", "lines of Windows", "lines"])
def test_a_file_of_a_vocabulary(tmp_path, content):
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(content.encode())
    assert load_tokenizer(path).encode('{x"é{') == [1, 3, 2, 1]


# ---- what is no tokenizer ----


@pytest.mark.parametrize("spec, message", [
    (7, "expected a path, a dict, a list or a Tokenizer, got int"),
    ({}, "expected a vocabulary"),
    ([], "expected a vocabulary"),
    (["a", 1], "expected a list of tokens, got 1 at 1"),
    (["a", "b", "a"], "'a' is there twice, at 0 and 2"),
    ({"a": "1"}, "'a': '1'"),
    ({"a": -1}, "'a': -1"),
    ({"a": True}, "'a': True"),
    ({1: "a"}, "1: 'a'"),
    ({"a": 1, "b": 1}, "'a' and 'b' have the same id 1"),
    ({"class_name": "Tokenizer"}, "with word_index, got None"),
    ({"class_name": "Tokenizer", "config": {"word_index": {"a": 1}}}, "with word_index, got"),
    ({"class_name": "Tokenizer", "config": {"word_index": "{"}}, "not sound JSON"),
    ({"class_name": "Tokenizer", "config": {"word_index": "[1]", "char_level": True}}, "expected a vocabulary"),
    ({"class_name": "Tokenizer", "config": {"word_index": '{"a": 1}'}}, "char_level"),
    ({"vocabulary": {"a": 1}, "char_level": True, "lower": 1}, "lower: expected a bool, got 1"),
    ({"vocabulary": {"a": 1}, "char_level": True, "split": ""}, "split"),
    ({"vocabulary": {"a": 1}, "char_level": True, "filters": None}, "filters: expected a str, got None"),
    ({"vocabulary": {"a": 1}, "char_level": True, "num_words": 2.5}, "num_words"),
    ({"vocabulary": {"a": 1}, "char_level": True, "oov_token": "?"}, "oov_token: expected a token"),
    ({"vocabulary": {"a": 1}, "char_level": True, "stemmer": "porter"}, "stemmer"),
])
def test_what_is_no_tokenizer_is_refused(spec, message):
    with pytest.raises(InputError) as caught:
        load_tokenizer(spec)
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '"a"', "[" * 100_000, "{}"])
def test_text_that_is_no_tokenizer_is_refused(text):
    with pytest.raises(InputError):
        Tokenizer.from_json(text)


@pytest.mark.parametrize("content", [b'{"a": 1', b"\xff\xfe\x00", b'{"a": "b"}', b"a\nb\na\n", b""])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="tokenizer.json: "):
        load_tokenizer(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_tokenizer(tmp_path / "tokenizer.json")
