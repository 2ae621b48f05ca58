"""From one file to everything that a node serves."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentstream.errors import ConfigError
from agentstream.flow.loader import SAMPLE, examine, load
from tests.cases import cases

FLOW = 'name = "{}"\nstart = "a"\n[step.a]\napplet = "echo"\n'


def test_the_packaged_sample() -> None:
    loaded = load()
    assert loaded.warnings == () and set(loaded.flows) == {"bot", "echo", "welcome"}
    assert loaded.config.trunk == () and all(one.interface == "127.0.0.1" for one in loaded.config.sip.listeners)
    assert loaded.config.route_of("1000").flow == "bot"  # type: ignore[union-attr]
    assert {sound.resolve() for sound in loaded.sounds} == {
        SAMPLE.with_name("sorry.wav"),
        SAMPLE.with_name("welcome.wav"),
    }


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("\ufeffsip.advertise = '203.0.113.7'\n", "utf-8")
    loaded, problems = examine(tmp_path / "a.toml")
    assert [problem.path for problem in problems] == ["flows.path[0]"]
    assert loaded.config.sip.advertise == "203.0.113.7"


def test_every_problem_is_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "a.toml").write_text(FLOW.format("one") + "secnds = 3")
    (tmp_path / "flows" / "b.toml").write_text(FLOW.format("two") + "seconds = = 3")
    (tmp_path / "a.toml").write_text("media.playout_ms = 5\n[[route]]\nto = '*'\nflow = 'oen'")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "a.toml")
    assert [(Path(problem.file).name, problem.path) for problem in raised.value.problems] == [
        ("a.toml", "media.playout_ms"),
        ("a.toml", "step.a.secnds"),
        ("b.toml", "line 5"),
        ("a.toml", "route[0].flow"),
    ]
    assert raised.value.problems[-1].sentence == 'found "oen", expected the name of a flow; did you mean "one"?'


@pytest.mark.parametrize(
    ("content", "path", "sentence"),
    [
        (b"a = 1\nb = \n", "line 2", "is not TOML: Invalid value"),
        (b"a = 1\na = 2\n", "line 2", "is not TOML: Cannot overwrite a value"),
        (b"a = 1\nb = 2\nc = '\xff'", "line 3", "holds bytes that are not UTF-8, expected TOML, which is UTF-8"),
        (b"a = " + b"[" * 5000, "", "is nested too deep, expected a TOML file"),
        (b"#" * 5_000_000, "", "is longer than 4194304 bytes, expected a TOML file"),
    ],
)
def test_what_is_not_toml(tmp_path: Path, content: bytes, path: str, sentence: str) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    _, (problem,) = examine(tmp_path / "a.toml")
    assert problem.path == path and problem.sentence.startswith(sentence)


def test_two_flows_of_one_name_and_warnings(tmp_path: Path) -> None:
    for name, flow in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / "flows" / name).mkdir(parents=True)
        (tmp_path / "flows" / name / "flow.toml").write_text(FLOW.format(flow))
    (tmp_path / "a.toml").write_text("[[route]]\nto = '*'\nflow = 'one'\n[[route]]\nto = '1'\nflow = 'one'")
    loaded, (problem,) = examine(tmp_path / "a.toml")
    assert problem.path == "name" and "which" in problem.sentence and "has already" in problem.sentence
    assert [warning.sentence.split(" ", 2)[:2] for warning in loaded.warnings] == [["no", "route"], ["is", "never"]]


def test_no_route_is_a_warning_and_no_folder_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("")
    loaded, (problem,) = examine(tmp_path / "a.toml")
    assert problem.path == "flows.path[0]" and "which is no folder" in problem.sentence
    assert [warning.path for warning in loaded.warnings] == ["route"]


@pytest.mark.parametrize(
    ("listen", "media", "path"),
    [
        (["udp:5060:interface=127.0.0.1"], "", ""),
        (["udp:5060:interface=127.0.0.1", "tcp:5060:interface=[::1]"], "", "media.listen_v6"),
        (["udp:5060:interface=127.0.0.1", "tcp:5060:interface=[::1]"], "media.listen_v6 = '::1'", ""),
        (["udp:5060:interface=[::1]"], "media.listen = '::1'", ""),
        (["udp:5060:interface=127.0.0.1"], "media.listen = '::1'", "media.listen"),
    ],
)
def test_a_listener_of_a_family_without_rtp_is_warned_of(
    tmp_path: Path, listen: list[str], media: str, path: str
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "a.toml").write_text(FLOW.format("one"))
    (tmp_path / "a.toml").write_text(f"sip.listen = {listen}\n{media}\n[[route]]\nto = '*'\nflow = 'one'\n")
    loaded, problems = examine(tmp_path / "a.toml")
    assert not problems
    assert [warning.path for warning in loaded.warnings] == ([path] if path else [])


@pytest.mark.parametrize(
    ("listen", "lines", "sentence"),
    [
        ("udp", "server = 'sip:a.example'", ""),
        ("tcp", "server = 'sip:a.example'", ""),
        ("udp", "server = 'sip:a.example;transport=udp'", ""),
        ("udp", "server = 'sip:203.0.113.5'", ""),
        ("udp", "server = 'sips:a.example'", "is reached by TLS, and no listener has that"),
        ("udp", "server = 'sip:a.example;transport=tcp'", "is reached by TCP, and no listener has that"),
        ("tcp", "server = 'sip:203.0.113.5'", "is reached by UDP over IPv4, and no listener has that"),
        ("tcp", "server = 'sip:a.example:5060'", "is reached by UDP, and no listener has that"),
        ("udp", "server = 'sip:[2001:db8::5]'", "is reached by UDP over IPv6, and no listener has that"),
        ("udp", "register_at = ['sip:a.example', 'sips:b.example']", "is reached by TLS, and no listener has that"),
    ],
)
def test_a_server_that_no_listener_leads_to_is_warned_of(
    tmp_path: Path, listen: str, lines: str, sentence: str
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "a.toml").write_text(FLOW.format("one"))
    text = f"sip.listen = ['{listen}:5060:interface=127.0.0.1']\n[[route]]\nto = '*'\nflow = 'one'\n"
    (tmp_path / "a.toml").write_text(f"{text}[[trunk]]\nname = 'x'\naddress = ['203.0.113.5']\n{lines}\n")
    loaded, problems = examine(tmp_path / "a.toml")
    assert not problems
    place = "trunk[0].register_at[1]" if "register_at" in lines else "trunk[0].server"
    assert [(one.path, one.sentence.partition(": ")[0]) for one in loaded.warnings] == [(place, sentence)] * bool(
        sentence
    )


@pytest.mark.contract
@cases(
    ("url", "expected"),
    [
        ("ws://bot.example/", "wss://"),
        ("ws://K:T@10.0.0.1/", "wss://"),
        ("http://api.example/", "https://"),
        ("wss://bot.example/", ""),
        ("https://api.example/", ""),
        ("ws://127.0.0.1/", ""),
        ("ws://[::1]:5001/", ""),
        ("ws://localhost:5001/", ""),
    ],
    ids=lambda value: value or "no warning",
)
def test_row_25_ws_is_allowed_and_warned_of_where_it_leaves_this_machine(
    tmp_path: Path, url: str, expected: str
) -> None:
    (tmp_path / "flows").mkdir(exist_ok=True)
    (tmp_path / "flows" / "a.toml").write_text(
        f'name = "a"\nstart = "a"\n[step.a]\napplet = "voicebot"\nurl = "{url}"\n'
    )
    (tmp_path / "a.toml").write_text("[[route]]\nto = '*'\nflow = 'a'\n")
    loaded, problems = examine(tmp_path / "a.toml")
    assert not problems
    assert [(warning.path, expected in warning.sentence) for warning in loaded.warnings] == (
        [("step.a.url", True)] if expected else []
    )
    assert not any("T@" in str(warning) for warning in loaded.warnings)
