"""Who may know whom: the rules that keep the parts of lstmrt apart."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHON = sorted([*ROOT.glob("lstmrt/**/*.py"), *ROOT.glob("converters/**/*.py")])
C = sorted([*ROOT.glob("csrc/*.[ch]"), *ROOT.glob("csrc/*.def")])
OPTIONAL = {"h5py", "onnx", "onnxruntime", "google", "rich", "matplotlib", "keras", "tf_keras", "tensorflow"}
LONGEST = 600  # lines of a file


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = ("lstmrt", *parts) if parts[0] == "converters" else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PYTHON} | {"lstmrt._core": ROOT / "lstmrt" / "_core.pyx"}


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, whether it is imported with the file) of each import that runs, names of modules in full."""
    package = module_name(path) if path.stem == "__init__" else module_name(path).rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"))

    def walk(node: ast.AST, at_once: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_once) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package.rsplit(".", child.level - 1)[0] if child.level else ""
                module = ".".join(filter(None, (base, child.module)))
                for alias in child.names:
                    inner = f"{module}.{alias.name}"
                    yield (inner if inner in MODULES else module), at_once
            elif not is_for_types(child):
                yield from walk(child, at_once and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)))

    return walk(tree, True)


def known_to(name: str, at_once_only: bool = False) -> set[str]:
    """The lstmrt modules that module `name` imports."""
    return {module for module, at_once in imports(MODULES[name])
            if module.split(".")[0] == "lstmrt" and (at_once or not at_once_only)}


def importers_of(name: str) -> set[str]:
    return {module_name(path) for path in PYTHON if name in {module for module, _ in imports(path)}}


def within(*names: str) -> set[str]:
    """These modules of lstmrt and, of a package, all in it."""
    full = {f"lstmrt.{name}" for name in names}
    return {module for module in MODULES if module in full or module.rpartition(".")[0] in full}


def test_the_rules_see_every_part():
    assert {"lstmrt", "lstmrt.graph", "lstmrt.passes", "lstmrt.passes.infer_shapes", "lstmrt.converters.from_keras",
            "lstmrt.execution.compile"} <= set(MODULES)
    assert len(C) > 20
    assert "lstmrt.errors" in known_to("lstmrt.converters.from_keras")
    assert "lstmrt._core" in known_to("lstmrt.execution.compile")
    assert "lstmrt.converters" in known_to("lstmrt.loading") - known_to("lstmrt.loading", at_once_only=True)


# ---- Python ----


def test_errors_know_nobody():
    assert known_to("lstmrt.errors") == set()


def test_a_graph_knows_nobody_until_it_is_validated():
    assert known_to("lstmrt.graph", at_once_only=True) == set()
    assert known_to("lstmrt.graph") == {"lstmrt.validate"}


MEANING = ("errors", "graph", "activations", "gates", "operators", "shapes", "shapes_axes", "shapes_layers", "containers", "validate",
           "foreign_shapes", "onnx_proto", "reference", "reference_axes", "reference_control", "reference_layers", "sizes", "lifting",
           "passes", "precision", "vocabulary")
CONVERSION = MEANING + ("converters", "converters.keras", "generation_config", "text_inputs", "tokenizers", "paths", "one_hot")


@pytest.mark.parametrize("name", sorted(within(*MEANING)))
def test_meaning_and_passes_know_graphs_alone(name):
    assert known_to(name) <= within(*MEANING)


@pytest.mark.parametrize("name", sorted(within("converters", "converters.keras")))
def test_converters_know_graphs_alone(name):
    assert known_to(name) <= within(*CONVERSION) - within("reference", "passes")


@pytest.mark.parametrize("path", sorted(ROOT.glob("converters/**/*.py")), ids=lambda path: path.name)
def test_converters_import_each_other_and_lstmrt_by_relative_names(path):
    """The folder is installed as lstmrt.converters."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        absolute = ([alias.name for alias in node.names] if isinstance(node, ast.Import)
                    else [node.module] if isinstance(node, ast.ImportFrom) and not node.level else [])
        assert not [name for name in absolute if name.split(".")[0] in ("lstmrt", "converters")]


def test_the_core_is_known_by_those_who_run_models_alone():
    assert importers_of("lstmrt._core") == {"lstmrt.execution.compile", "lstmrt.machine", "lstmrt.model", "lstmrt.seq2seq.runner"}


@pytest.mark.parametrize("name", ["halves", "joining", "causality"])
def test_taking_models_apart_and_together_is_about_graphs_alone(name):
    assert known_to(f"lstmrt.seq2seq.{name}") <= within(*MEANING, "states") | {"lstmrt.seq2seq.halves"}


def test_model_takes_states_and_their_steps_alone_from_the_core():
    tree = ast.parse(MODULES["lstmrt.model"].read_text(encoding="utf-8"))
    taken = [alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "_core"
             for alias in node.names]
    assert taken == ["State", "step_by"]


def test_generation_reaches_the_core_through_the_model():
    assert known_to("lstmrt.generation") <= within("errors", "generation_config", "graph", "operators", "vocabulary")


def test_the_core_knows_errors_alone():
    source = MODULES["lstmrt._core"].read_text(encoding="utf-8")
    assert set(re.findall(r"^\s*from \.(\w+) c?import", source, re.MULTILINE)) == {"_clib", "errors"}


def test_the_command_line_goes_through_models_and_their_files():
    assert known_to("lstmrt.cli") <= within("benchmark", "cost", "errors", "generation_config", "loading", "machine", "paths",
                                              "precision", "report", "verify")


@pytest.mark.parametrize("path", [path for path in PYTHON if path.stem != "onnx_backend"], ids=module_name)
def test_optional_packages_are_imported_where_they_are_needed(path):
    assert not {module for module, at_once in imports(path) if at_once and module.split(".")[0] in OPTIONAL}


@pytest.mark.parametrize("path", PYTHON, ids=module_name)
def test_nothing_that_runs_what_a_file_says(path):
    """No pickle, marshal or eval: a model file is data."""
    modules = {module.split(".")[0] for module, _ in imports(path)}
    assert not modules & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "subprocess", "ctypes"}
    calls = {node.func.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not calls & {"eval", "exec", "compile", "__import__"}


# ---- C ----

FORBIDDEN = r"\b(?:\w*printf|puts|putchar|fputs|fwrite|perror|stdout|stderr|exit|_exit|abort|assert|getenv|setlocale)\b"
OUTSIDE_OS = r"\b(?:malloc|calloc|realloc|free|aligned_alloc|posix_memalign)\s*\("
COMMENTS_AND_TEXTS = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.DOTALL)


def c_code(path: Path) -> str:
    return COMMENTS_AND_TEXTS.sub("", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", C, ids=lambda path: path.name)
def test_the_core_neither_prints_nor_ends_the_process(path):
    assert not re.findall(FORBIDDEN, c_code(path))


@pytest.mark.parametrize("path", [path for path in C if path.stem != "os"], ids=lambda path: path.name)
def test_memory_comes_through_the_one_allocator(path):
    assert not re.findall(OUTSIDE_OS, c_code(path))


@pytest.mark.parametrize("path", C, ids=lambda path: path.name)
def test_the_core_knows_no_python(path):
    assert "Python.h" not in path.read_text(encoding="utf-8")


# ---- all ----

SOURCES = [*PYTHON, *C, *ROOT.glob("lstmrt/*.p[yx][xd]"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("tests/c/*.[ch]"),
           *ROOT.glob("bench/**/*.py"), *ROOT.glob("examples/**/*.py")]


@pytest.mark.parametrize("path", sorted(SOURCES), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_enough_to_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST
