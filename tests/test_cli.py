"""The command line as a shell sees it: what goes where, and with which exit status."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import lstmrt
from lstmrt.format import ModelFile, write
from small_models import language_model


def lstmrt_command(*arguments: str, cwd: object, **environment: str) -> subprocess.CompletedProcess:
    """Run in an empty folder, so that the installed package is found and nothing else."""
    return subprocess.run([sys.executable, "-m", "lstmrt", *map(str, arguments)], capture_output=True, text=True,
                          cwd=cwd, env={**os.environ, **environment}, timeout=120)


@pytest.fixture(scope="module")
def sample() -> str:
    from importlib.resources import files

    return str(files("lstmrt") / "data" / "sample.lstmrt")


def test_generate_speaks_the_speech(tmp_path):
    done = lstmrt_command("generate", "To be or not", "-n", "8", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == "To be or not to be that is the question whether 'tis\n"
    assert "8 tokens" in done.stderr and "tokens/s" in done.stderr


def test_generate_samples_by_seed(tmp_path):
    one, again, other = (
        lstmrt_command("generate", "To be", "-n", "12", "--temperature", "3", "--seed", seed, cwd=tmp_path).stdout
        for seed in ("1", "1", "2"))
    assert one == again != other


def test_stop_string_ends_the_text(tmp_path):
    done = lstmrt_command("generate", "To be or not", "--stop", " question", cwd=tmp_path)
    assert done.stdout == "To be or not to be that is the\n"


def test_convert_inspect_verify(tmp_path, sample):
    assert lstmrt_command("convert", sample, "copy.lstmrt", cwd=tmp_path).returncode == 0
    refused = lstmrt_command("convert", sample, "copy.lstmrt", cwd=tmp_path)
    assert refused.returncode == 1 and "--force" in refused.stderr and refused.stdout == ""
    assert lstmrt_command("convert", sample, "copy.lstmrt", "--force", cwd=tmp_path).returncode == 0
    assert os.listdir(tmp_path) == ["copy.lstmrt"]
    assert (tmp_path / "copy.lstmrt").read_bytes() == open(sample, "rb").read()

    shown = lstmrt_command("inspect", "copy.lstmrt", cwd=tmp_path).stdout
    for word in ("parameters: 165,120", "window, 9 ids", "LSTM", "(batch, 150)", "native"):
        assert word in shown
    verified = lstmrt_command("verify", "copy.lstmrt", cwd=tmp_path)
    assert verified.returncode == 0 and verified.stdout.startswith("ok: dense")


def test_a_changed_weight_is_found(tmp_path, sample):
    damaged = bytearray(open(sample, "rb").read())
    damaged[-40_000] ^= 0x40
    (tmp_path / "damaged.lstmrt").write_bytes(damaged)
    for command in ("verify", "inspect"):
        done = lstmrt_command(command, "damaged.lstmrt", cwd=tmp_path)
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.startswith("lstmrt: damaged.lstmrt: damaged: its checksum") and done.stderr.count("\n") == 1


def test_bench_holds_a_model_against_the_machine(tmp_path, sample):
    for model in ([], [sample]):
        done = lstmrt_command("bench", *model, "--seconds", "0.02", "--time", "5", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        token, run = (line.split() for line in done.stdout.splitlines()[-2:])
        assert token[0] == "token" and token[-1] == "%" and float(token[3].replace(",", "")) > 10
        assert " ".join(run[:4]) == "run of (1, 9)", "the sample's window is fixed"


@pytest.mark.parametrize("arguments, status, said", [
    (["bench", "--seconds", "0"], 1, "--seconds"),
    (["bench", "absent.keras"], 1, "absent.keras"),
    (["generate"], 2, "PROMPT"),
    (["generate", "x", "--beams", "3"], 2, "--beams"),
    (["nonsense"], 2, "nonsense"),
    (["inspect", "absent.keras"], 1, "absent.keras: No such file or directory"),
    (["convert", "absent.keras", "x.lstmrt"], 1, "absent.keras"),
    (["generate", "zebra"], 1, "prompt"),
    (["generate", "to be", "--temperature", "-1"], 1, "temperature"),
    (["generate", "to be", "--end", "be", "--start", "to"], 1, "eos_token_id: for encoder-decoders, and this model is none"),
    (["convert", "absent.lstmrt", "x.keras"], 1, "x.keras: lstmrt writes .lstmrt and .onnx files"),
])
def test_exit_status(tmp_path, arguments, status, said):
    done = lstmrt_command(*arguments, cwd=tmp_path)
    assert done.returncode == status and said in done.stderr and done.stdout == ""
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_failed_conversion_leaves_nothing(tmp_path):
    (tmp_path / "garbage.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    done = lstmrt_command("convert", "garbage.h5", "x.lstmrt", cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.startswith("lstmrt: garbage.h5")
    assert os.listdir(tmp_path) == ["garbage.h5"]


@pytest.mark.parametrize("options, said", [
    (["--precision", "int8", "--text", "text"], "text: 'utf-8' codec"),
    (["--precision", "int8", "--text", "absent"], "absent: No such file"),
    (["--text", "text"], "--precision"),
    (["--precision", "int8", "--text", "short"], "the text has 2 known tokens"),
])
def test_a_text_that_will_not_do_is_noticed_first(tmp_path, sample, options, said):
    (tmp_path / "text").write_bytes(b"\xff\xfe")
    (tmp_path / "short").write_text("to be zebra")
    done = lstmrt_command("convert", sample, "x.lstmrt", *options, cwd=tmp_path)
    assert done.returncode == 1 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == ["short", "text"]


def test_several_faults_are_one_line(tmp_path):
    write(tmp_path / "masked.lstmrt", ModelFile(language_model("LSTM", (5, 7), mask=True)))
    done = lstmrt_command("convert", "masked.lstmrt", "x.onnx", cwd=tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "layer_0" in done.stderr and "layer_1" in done.stderr


def test_unknown_instruction_set(tmp_path):
    done = lstmrt_command("generate", "To be", cwd=tmp_path, LSTMRT_ISA="sse9")
    assert done.returncode == 1 and "sse9" in done.stderr


def test_a_text_that_the_output_has_no_characters_for(tmp_path):
    done = lstmrt_command("generate", "To be \N{CHECK MARK}", "-n", "3", cwd=tmp_path, PYTHONIOENCODING="latin-1")
    assert done.returncode == 1
    assert done.stderr == ("lstmrt: the output's encoding, latin-1, has no '\\u2713': PYTHONIOENCODING=utf-8 sets another\n")


def test_the_prompt_is_echoed_where_nothing_follows(tmp_path):
    done = lstmrt_command("generate", "To be", "-n", "0", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "To be\n")


def test_python_and_shell_agree(sample):
    model = lstmrt.load(sample)
    assert model.generate("To be or not", max_new_tokens=4) == " to be that is"
    assert "".join(model.stream("To be or not", max_new_tokens=4)) == " to be that is"
