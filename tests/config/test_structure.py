"""Strict reading: what cattrs by itself would let through, and who may call."""

from __future__ import annotations

import tomllib
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstream.config.access import Trunk
from agentstream.config.document import read_config
from agentstream.config.metadata import setting
from agentstream.config.model import Config
from agentstream.config.reference import reference
from agentstream.config.routes import Route
from agentstream.config.structure import found, parse_network, read
from tests.config.documents import good


def problems_of(text: str) -> list[str]:
    _, _, problems = read_config(tomllib.loads(text), "a.toml")
    return [str(problem) for problem in problems]


def test_nothing_at_all_is_a_config() -> None:
    config, broken, problems = read_config({}, "folder/a.toml")
    assert not problems and not broken
    assert config.flows.path == (Path("folder/flows"),)
    assert config.sip_address == config.media_address(is_v6=False) == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('sip.listen = "udp:5060"', 'sip.listen: found "udp:5060", expected a list of 1 or more strings, such as'),
        ("media.playout_ms = 60.0", "media.playout_ms: found 60.0, expected a whole number of ms from 20 to 400"),
        ("media.max_calls = true", "media.max_calls: found true, expected a whole number from 1 to 10000"),
        ("media.max_cals = 5", 'media.max_cals: is not known here; did you mean "max_calls"?'),
        (
            '"a b" = 5',
            '"a b": is not known here; known are: access, account, applets, flows, http, media, ',
        ),
        ("[trunk]\nname = 'a'", "trunk: found a table, expected a list of tables, each under double brackets"),
        (
            "[[trunk]]\nname = 'a'",
            'trunk[0].address: is empty while known_by is "address"; expected addresses, or known_by = "digest"',
        ),
        ("[[node]]", "node: found a list of tables, expected a table"),
        ("stream.chunk_ms = 30", "stream.chunk_ms: found 30, expected a whole number of ms from 20 to 200, a multiple"),
        ("node.name = 1979-05-27", "node.name: found 1979-05-27, expected a string"),
        ('sip.listen = ["udp:5060"]', "sip.advertise: is empty while a listener is on every address"),
        ('sip.listen = ["sctp:5061"]', 'sip.listen[0]: found "sctp:5061", expected a listener such as'),
        (
            'sip.listen = ["udp:5060:advertise=a b"]',
            'sip.listen[0]: found "udp:5060:advertise=a b", expected',
        ),
        ('sip.listen = ["tls:0:interface=::1"]', "tls.certificate: is empty while sip.listen has a listener for TLS"),
        ('tls.key = "k.pem"', "tls.certificate: is empty while tls.key is set; expected the PEM file"),
        (
            'tls.certificate = "c.pem"',
            "tls.key: is empty while tls.certificate is set; expected the PEM file",
        ),
        (
            'media.listen = "0.0.0.0"\nsip.listen = ["udp:5060:advertise=sip.example.com"]',
            "media.advertise: is empty while RTP is on every address",
        ),
        (
            'sip = {listen = ["udp:5060", "tcp:5060:interface=[::]"], advertise = "203.0.113.7"}',
            "sip.advertise_v6: is empty while a listener is on every address",
        ),
        (
            "media = {playout_min_ms = 200, playout_max_ms = 100}",
            "media.playout_min_ms: found 200, expected no more than",
        ),
        (
            "registrar.min_expires_s = 3600\nregistrar.max_expires_s = 600",
            "registrar.min_expires_s: found 3600, expected",
        ),
        (
            "sip.min_session_expires_s = 3600",
            "sip.min_session_expires_s: found 3600, expected no more than sip.session_ex",
        ),
        (
            'sip = {listen = ["tcp:5060", "udp:5060", "tcp:5060:interface=0.0.0.0"], advertise = "203.0.113.7"}',
            "sip.listen[2]: is on the address and port of listen[0]; expected another port or address",
        ),
        ('media = {listen = "::1", listen_v6 = "::1"}', "media.listen_v6: is a second IPv6 address"),
        ('media.listen_v6 = "127.0.0.1"', 'media.listen_v6: found "127.0.0.1", expected an IPv6 address'),
    ],
)
def test_one_mistake_and_its_sentence(text: str, problem: str) -> None:
    (line,) = problems_of(text)
    assert line.startswith(f"a.toml: {problem}")


def test_ports_that_the_system_chooses_are_not_the_same() -> None:
    assert problems_of('sip.listen = ["udp:0:interface=::1", "udp:0:interface=::1", "tcp:0:interface=::1"]') == []


def test_no_session_timer_of_ours_is_no_bound() -> None:
    assert problems_of("sip = {session_expires_s = 0, min_session_expires_s = 3600}") == []


def test_relative_paths_start_at_the_folder_of_the_file() -> None:
    def paths(value: object) -> list[Path]:
        if isinstance(value, tuple):
            return [path for item in value for path in paths(item)]
        if attrs.has(type(value)):
            return [path for field in attrs.fields(type(value)) for path in paths(getattr(value, field.name))]
        return [value] if isinstance(value, Path) else []

    config, _, _ = read_config(good()["config"], "/etc/node/a.toml")
    found_paths = paths(config)
    assert Path("/etc/node/trace/sip.log") in found_paths
    assert all(path.is_relative_to("/etc/node") for path in found_paths)


def test_what_a_validator_of_attrs_says_is_its_sentence_and_no_secret() -> None:
    @attrs.frozen
    class Options:
        """Of a drop-in."""

        size: int = attrs.field(default=1, validator=attrs.validators.lt(5), metadata={"doc": "A size."})
        name: str = attrs.field(default="a", validator=attrs.validators.in_(["a", "b"]), metadata={"doc": "A name."})

    @attrs.frozen
    class Secretive:
        """One with a key."""

        key: str = attrs.field(validator=attrs.validators.matches_re("[a-z]+"), metadata={"doc": "", "secret": True})

    _, (mistake,) = read(Options, {"name": "c"})
    assert mistake.sentence == "is refused: 'name' must be in ['a', 'b'] (got 'c')"
    _, (mistake,) = read(Secretive, {"key": "5ecre7"})
    assert mistake.sentence == "is refused: why is not shown, because it may quote a secret"


def test_two_trunks_of_one_name_even_when_one_has_another_mistake() -> None:
    text = "[[trunk]]\nname='a'\naddress=['::1']\n[[trunk]]\nname='a'\nnat='never'\nmax_calls=-1"
    assert len(problems_of(text)) == 3


def test_passwords_are_not_shown() -> None:
    assert found("wss://key:token@example.org/a") == '"wss://***@example.org/a"'


def test_who_may_call() -> None:
    config = Config()
    assert config.trunk_of("127.0.0.1") and config.trunk_of("::1") and config.trunk_of("::ffff:127.0.0.1")
    assert not config.trunk_of("192.0.2.1") and not config.trunk_of("localhost")
    one = Trunk(name="one", address=(parse_network("192.0.2.0/24"),))
    two = Trunk(name="two", address=(parse_network("192.0.0.0/16"), parse_network("2001:db8::/32")))
    config = Config(trunk=(one, two))
    assert config.trunk_of("192.0.2.1") is one and config.trunk_of("2001:db8::5") is two
    assert not config.trunk_of("127.0.0.1")


def test_the_first_route_that_matches_wins_and_case_matters() -> None:
    config = Config(route=(Route(to="10?0", flow="a"), Route(to="[A-Z]*", flow="b"), Route(to="*", flow="c")))
    assert [route.flow for user in ("1000", "Bob", "bob") if (route := config.route_of(user))] == ["a", "b", "c"]
    assert Config().route_of("1000") is None


@attrs.frozen
class Everything:
    """A field of each type."""

    number: float = setting(default=1.0, doc="A number.")
    flag: bool = setting(default=False, doc="A flag.")
    times: tuple[int, ...] = setting(default=(), doc="Numbers.", range=(1, 3))


def test_numbers_and_flags() -> None:
    value, mistakes = read(Everything, {"number": 2, "flag": True, "times": [1, 3]})
    assert not mistakes and value == Everything(number=2.0, flag=True, times=(1, 3))
    _, mistakes = read(Everything, {"number": float("nan"), "flag": 1, "times": [0, True, 2]})
    assert {mistake.path for mistake in mistakes} == {"number", "flag", "times[0]", "times[1]"}


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from([field.name for field in attrs.fields(Config)]) | st.text(max_size=8),
        plain | st.dictionaries(st.sampled_from(["name", "path", "listen", "to", "ports"]), plain),
    )
)
def test_any_document_is_read_or_refused(document: dict[str, object]) -> None:
    _, _, problems = read_config(document, "a.toml")
    assert all(problem.sentence for problem in problems)


def test_the_page_is_the_one_that_the_settings_make() -> None:
    page = Path(__file__).parents[2] / "docs" / "config.md"
    assert page.read_text() == reference(), "run: python -m agentstream.config.reference > docs/config.md"
