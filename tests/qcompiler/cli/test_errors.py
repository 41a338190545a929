"""Every failure is one line on stderr with a remedy, and an exit code; nothing is written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qcompiler.errors import VerificationError
from tests.qcompiler.cli.conftest import Qcompile, Ran

DYNAMIC = ("--passes", "int8_dynamic")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--passes", "int8_dynamc"), "Did you mean 'int8_dynamic'?"),
        (("--passes", "int8_dynamic:granularty=token"), "Did you mean 'granularity'?"),
        (("--passes", "int8_dynamic:granularity=row"), "granularity"),
        (("--passes", "int8_static:percentile=200"), "expected between 50 and 100"),
        (("--pases", "int8_dynamic"), "Did you mean '--passes'?"),
        (("--passes", "int8_static"), "--calib"),
        ((), "--passes int8_dynamic"),
        ((*DYNAMIC, "--target", "ort-cpus"), "Did you mean 'ort-cpu'?"),
        ((*DYNAMIC, "--target", "ort-cpu:isa=avx3"), "avx2"),
        ((*DYNAMIC, "--exclude", "/clasifier/*"), "matches no node"),
        ((*DYNAMIC, "--verify", "all"), "numerics"),
        ((*DYNAMIC, "--threads", "0"), "--threads"),
        ((*DYNAMIC, "--image-size", "big"), "--image-size"),
        ((*DYNAMIC, "--image-mean", "1,two,3"), "--image-mean"),
        ((*DYNAMIC, "--image-std", "0"), "--image-std"),
        ((*DYNAMIC, "--calib-column", "image"), "INPUT=NAME"),
        ((*DYNAMIC, "--calib-batch", "0"), "--calib-batch"),
        ((*DYNAMIC, "--calib", "no-such.npz"), "does not exist"),
        ((*DYNAMIC, "--max-ram", "4X"), "expected a number and a unit"),
        ((*DYNAMIC, "--max-ram", "20M"), "--max-ram is 20 MB, and verification needs about"),
        ((*DYNAMIC, "--verify", "none", "--max-ram", "20M"), "give at least --max-ram 0.3G"),
        ((*DYNAMIC, "surplus.onnx"), "surplus.onnx"),
    ],
)
def test_bad_configuration(
    arguments: tuple[str, ...], message: str, qcompile: Qcompile, digits: Path, tmp_path: Path
) -> None:
    ran = qcompile(digits, *arguments, "-o", tmp_path / "out")
    assert ran.code == 2
    assert ran.out == ""
    assert message in error_line(ran)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("word", ["frobnicate", "compil"])
def test_a_word_that_is_neither_command_nor_file(qcompile: Qcompile, word: str) -> None:
    ran = qcompile(word)
    assert ran.code == 2
    assert f"there is no command or file {word!r}" in error_line(ran)
    assert "'compile'" in ran.err or "Known: bench, compare, compile" in ran.err


def test_missing_model(qcompile: Qcompile, tmp_path: Path) -> None:
    ran = qcompile(tmp_path / "missing.onnx", *DYNAMIC)
    assert ran.code == 2
    assert "missing.onnx" in error_line(ran)


def test_unwritable_output(qcompile: Qcompile, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    ran = qcompile(digits, *DYNAMIC, "--target", "onnx", "-o", tmp_path / "file" / "out")
    assert ran.code == 2
    assert "cannot be written" in error_line(ran)


@pytest.mark.parametrize(
    ("typo", "meant"), [("insepct", "inspect"), ("target", "targets"), ("bnch", "bench")]
)
def test_a_misspelled_command_is_suggested(typo: str, meant: str, qcompile: Qcompile) -> None:
    ran = qcompile(typo, "model.onnx")
    assert ran.code == 2
    assert f"Did you mean {meant!r}?" in ran.err


def test_a_recipe_with_an_unknown_key(qcompile: Qcompile, digits: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("passes: [int8_dynamic]\nexclud: ['/stem*']\n")
    ran = qcompile(digits, "--recipe", recipe, "-o", tmp_path / "out")
    assert ran.code == 2
    assert "exclud" in ran.err
    assert "exclude" in ran.err


@pytest.mark.parametrize("command", ["passes", "targets"])
def test_an_unknown_name_in_a_listing(command: str, qcompile: Qcompile) -> None:
    ran = qcompile(command, "int8_dynamik")
    assert ran.code == 2
    assert "int8_dynamik" in ran.err


@pytest.mark.parametrize("command", ["compare", "bench"])
def test_a_missing_second_model(command: str, qcompile: Qcompile, digits: Path) -> None:
    ran = qcompile(command, digits, "missing.onnx")
    assert ran.code == 2
    assert "missing.onnx" in error_line(ran)


@pytest.mark.parametrize("command", ["compare", "bench"])
def test_commands_that_calibrate_nothing_have_plain_names_for_data(
    command: str, qcompile: Qcompile, digits: Path
) -> None:
    ran = qcompile(command, digits, digits, "--samples", "0")
    assert (ran.code, ran.err) == (2, "error: --samples is 0, expected at least 1.\n")
    assert "--samples" in error_line(qcompile(command, digits, digits, "--calib-samples", "4"))


def test_export_needs_a_checkpoint(qcompile: Qcompile, tmp_path: Path) -> None:
    ran = qcompile("export", tmp_path, "-o", tmp_path / "model.onnx")
    assert ran.code == 2
    assert "config.json" in ran.err


def test_a_failed_verification_is_exit_code_1(
    qcompile: Qcompile, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "qcompiler.driver.compile", raising(VerificationError("output 'y' is wrong; try this."))
    )
    ran = qcompile(digits, *DYNAMIC)
    assert (ran.code, ran.err) == (1, "error: output 'y' is wrong; try this.\n")


def test_an_impossible_demand_fails_verification(
    qcompile: Qcompile, language_model: Path, tmp_path: Path
) -> None:
    """No int8 model of this size has a cosine of 1 - 1e-12 to its float model."""
    strict = ("--min-cosine", "0.999999999999", "--calib-samples", "2", "--verify", "numerics")
    ran = qcompile(language_model, *DYNAMIC, "--target", "onnx", *strict, "-o", tmp_path)
    assert ran.code == 1
    assert "logits" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_defect_is_one_line_and_debug_shows_where(
    qcompile: Qcompile, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcompiler.driver.compile", raising(KeyError("surprise\nin two lines")))
    ran = qcompile(digits, *DYNAMIC)
    assert ran.code == 70
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("internal error: KeyError")
    assert "--debug" in ran.err
    ran = qcompile(digits, *DYNAMIC, "--debug")
    assert ran.code == 70
    assert "Traceback" in ran.err


def test_out_of_memory_is_no_defect(
    qcompile: Qcompile, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcompiler.driver.compile", raising(MemoryError()))
    ran = qcompile(digits, *DYNAMIC)
    assert ran.code == 2
    assert "--calib-samples" in ran.err


def test_debug_shows_the_traceback_of_an_error(qcompile: Qcompile) -> None:
    assert "Traceback" in qcompile("missing.onnx", *DYNAMIC, "--debug").err


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, "interrupted."),
        (signal.SIGTERM, 143, "ended by SIGTERM."),
        (signal.SIGHUP, 129, "ended by SIGHUP."),
    ],
)
def test_interruption_cleans_up(
    digits: Path, tmp_path: Path, number: signal.Signals, code: int, words: str
) -> None:
    # Whoever runs the tests in the background or under nohup has set signals to be ignored, and children inherit that.
    script = "import signal, time, qcompiler.driver as driver\n"
    script += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    script += "def build(*a, **b): print('ready', flush=True); time.sleep(60)\n"
    script += "driver.build = build\nfrom qcompiler.cli import main; main()"
    command = [sys.executable, "-c", script, str(digits), *DYNAMIC, "-o", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err.splitlines()[-1]) == (code, f"error: {words}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("passes",), ("compile", "--help"), ("passes", "--json")])
def test_a_closed_pipe_is_no_error(command: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code = "from qcompiler.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *command], stdout=writing, stderr=subprocess.PIPE, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def error_line(ran: Ran) -> str:
    """The last line of stderr; warnings about the data may stand before it."""
    *before, last = ran.err.splitlines()
    assert all(line.startswith("warning: ") for line in before)
    assert last.startswith("error: ")
    return last


def raising(error: BaseException) -> object:
    """A function that raises ``error`` whatever it is given."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail
