"""The command line: names, options, exit statuses, and errors as one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agentstream.cli.commands import COMMANDS, build_parser, main
from agentstream.cli.server import ServerSettings, options_request
from agentstream.flow.loader import load
from agentstream.sip.parser import parse_message


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"usage: agentstream {command}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["sing"], ["call"], ["bench", "--calls", "many"], ["bench", "--rate", "44100"]])
def test_wrong_usage_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "agentstream" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["call", "1000"], 2, "give one like sip:1000@127.0.0.1:5060."),
        (["call", "sip:1000@127.0.0.1", "--wav", "/no/such.wav"], 2, "give the path of a WAV file."),
        (["call", "sip:1000@127.0.0.1", "--dtmf", "12x"], 2, "--dtmf has 'X': use 0123456789*#ABCD."),
        (["call", "sip:1000@127.0.0.1", "--seconds", "-1"], 2, "--seconds -1 is out of range"),
        (["call", "sip:1000@127.0.0.1", "--record", "/no/such/out.wav"], 2, "choose another file."),
        (["demo", "--record", "/no/such/out.wav"], 1, "choose another file."),
        (["bench", "--calls", "0"], 1, "--calls 0 is out of range"),
        (["bench", "--seconds", "0"], 1, "--seconds 0 is out of range"),
        (["bench", "--chunk-ms", "100", "30"], 1, "give a multiple of 20 from 20 to 200."),
        (["bench", "--rounds", "0"], 1, "--rounds 0 is out of range"),
        (["bench", "--rate", "16000", "--seconds", "1400"], 1, "beside --rate give at most 1300."),
        (["bench", "--churn", "0"], 1, "--churn 0 is out of range: give 0.1 to 200."),
        (["bench", "--sip", "0"], 1, "--sip 0 is out of range: give 1 to 2000."),
        (["bench", "--ramp", "--vad", "on", "off"], 1, "--ramp compares nothing: give one of each setting."),
        (["bench", "--playout-ms", "25"], 1, "give a multiple of 10 from 20 to 400."),
        (["bench", "--plot", "x.svg"], 1, "--plot is of a ramp: add --ramp."),
        (["bench", "--soak", "--rounds", "2", "--profile", "x.svg"], 1, "--profile is of one run"),
        (["bench", "--markdown", "/no/such.json"], 1, "is nothing that agentstream bench --json wrote"),
    ],
)
def test_errors_are_one_sentence(
    words: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == status
    said = capsys.readouterr().err
    assert said.startswith("agentstream: ") and sentence in said and said.count("\n") == 1


def test_only_the_command_that_was_asked_for_is_imported() -> None:
    ask = "build_parser(None); print('numpy' in sys.modules)"
    code = f"import sys; from agentstream.cli.commands import build_parser; {ask}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.strip() == "False"
    assert build_parser("call").parse_args(["call", "sip:a@b"]).uri == "sip:a@b"


def test_the_generated_config_is_one_that_the_server_takes(tmp_path: Path) -> None:
    bots = {"echo": "ws://127.0.0.1:5001/echo?a=1", "probe": "ws://127.0.0.1:5001/probe"}
    config = ServerSettings(5070, bots, chunk_ms=20, max_calls=700).write(tmp_path)
    loaded = load(config)
    assert loaded.config.stream.chunk_ms == 20 and loaded.config.media.max_calls == 700
    assert [route.flow for route in loaded.config.route] == ["echo", "probe"]
    assert loaded.config.http.listen == "" and all(
        not flow.steps["bot"].options.record for flow in loaded.flows.values()
    )


def test_what_the_bench_switches_on_is_on(tmp_path: Path) -> None:
    settings = ServerSettings(
        5070, {"echo": "ws://127.0.0.1:1/"}, http_port=8081, recordings=tmp_path / "tapes", speech_detector="silero"
    )
    loaded = load(settings.write(tmp_path))
    assert "8081" in loaded.config.http.listen and loaded.config.media.speech_detector == "silero"
    assert loaded.config.recording.folder == tmp_path / "tapes"


def test_the_question_whether_a_server_is_there_is_valid_sip() -> None:
    message = parse_message(options_request(5060, 5070))
    message.check()
    assert message.method == "OPTIONS"
