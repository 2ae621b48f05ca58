"""Trunks that nobody could be recognised as, and users that two of them have."""

from __future__ import annotations

import tomllib

import pytest

from agentstream.config.document import read_config


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("", 'trunk[0].address: is empty while known_by is "address"; expected addresses, or known_by = "digest"'),
        ('known_by = "digest"', 'trunk[0].user: is empty while known_by is "digest"; expected a user'),
        ('known_by = "digest"\nuser = "a"', "trunk[0].password: is empty while user is not; expected both, or neither"),
        (
            'address = ["::1"]\npassword = "a"',
            "trunk[0].user: is empty while password is not; expected both, or neither",
        ),
        (
            'known_by = "both"\nuser = "a"\npassword = "b"',
            'trunk[0].address: is empty while known_by is "both"; expected addresses, or known_by = "digest"',
        ),
        (
            'known_by = "digest"\nuser = "a"\npassword = "b"\n'
            '[[trunk]]\nname = "y"\nknown_by = "digest"\nuser = "a"\npassword = "c"',
            'trunk[1].user: found "a", which trunk[0] has already; expected a user of its own',
        ),
    ],
)
def test_one_mistake_and_its_sentence(lines: str, problem: str) -> None:
    _config, _broken, problems = read_config(tomllib.loads(f'[[trunk]]\nname = "x"\n{lines}'), "f")
    assert [f"{one.path}: {one.sentence}" for one in problems] == [problem]


def test_a_trunk_with_numbers_says_where_they_are_called() -> None:
    mistaken = '[[trunk]]\nname = "x"\naddress = ["::1"]\nnumbers = ["0*"]\n'
    (problem,) = read_config(tomllib.loads(mistaken), "f")[2]
    assert str(problem) == "f: trunk[0].server: is empty while numbers is not; expected where they are called"


def test_a_trunk_that_is_pinged_says_where() -> None:
    mistaken = '[[trunk]]\nname = "x"\naddress = ["::1"]\nping_s = 30\n'
    (problem,) = read_config(tomllib.loads(mistaken), "f")[2]
    assert str(problem) == "f: trunk[0].server: is empty while ping_s is not 0; expected where pings go"


def test_a_trunk_that_is_only_called_needs_no_address() -> None:
    text = '[[trunk]]\nname = "x"\nserver = "sip:sbc.example.com"\nnumbers = ["0*"]\n'
    config, _broken, problems = read_config(tomllib.loads(text), "f")
    assert problems == []
    assert config.trunk_of("127.0.0.1") is None
    assert (config.trunk_to("0815"), config.trunk_to("+49")) == (config.trunk[0], None)


def test_two_trunks_may_log_in_elsewhere_as_the_same_user() -> None:
    text = "".join(
        f'[[trunk]]\nname = "{name}"\naddress = ["::1"]\nuser = "a"\npassword = "b"\n' for name in ("x", "y")
    )
    assert read_config(tomllib.loads(text), "f")[2] == []
