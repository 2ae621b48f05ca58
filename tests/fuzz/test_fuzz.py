"""The fuzzer's seeds are heard by every target, and a bug that is planted in a parser is found."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from tests.conftest import REQUIRE_PEERS
from tests.fuzz.seeds import FOLDER
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_pass(name: str) -> None:
    seeds = sorted((FOLDER / name).iterdir())
    assert len(seeds) >= 3
    for seed in seeds:
        TARGETS[name].run(seed.read_bytes())
    TARGETS[name].run(b"")


@attrs.frozen
class Plant:
    """A bug: in this file ``good`` becomes ``bad``."""

    target: str
    file: str
    good: str
    bad: str


PLANTS = (
    Plant("sip_message", "sip/parser.py", "if len(words) > 1 and len(words[1]) == 3", "if len(words[1]) == 3"),
    Plant("sip_headers", "sip/headers.py", 'if not rest.startswith("<"):', 'if rest[0] != "<":'),
    Plant(
        "sip_extensions",
        "sip/digest.py",
        'if "realm" not in fields or "nonce" not',
        'if "realm" not in fields and "nonce" not',
    ),
    Plant("sip_uri", "sip/grammar.py", "port = parse_number(rest[1:].strip(), 65535)", "port = int(rest[1:])"),
    Plant("sip_stream", "sip/framing.py", "max(0, len(buffer) - 3)", "len(buffer)"),
    Plant("sip_stack", "sip/core.py", "self.invites.pop(transaction, None)", "del self.invites[transaction]"),
    Plant("sdp", "sdp/description.py", "if len(words) != 6:", "if len(words) < 5:"),
    Plant("rtp", "rtp/packet.py", "if offset + 4 > len(data):", "if offset > len(data):"),
    Plant("rtp_events", "rtp/events.py", "if event.event >= len(DIGITS):", "if event.event > len(DIGITS):"),
    Plant("rtcp", "rtp/rtcp.py", "if len(body) < 4 * count:", "if len(body) + 4 < 4 * count:"),
    Plant("wire", "wire/exotel.py", "if type(event) is not str:", "if event is None:"),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, to plant bugs in."""
    copy = tmp_path_factory.mktemp("fuzz")
    for folder in ("agentstream", "tests/fuzz"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.wav", "*.onnx"))
    (copy / "tests" / "__init__.py").touch()
    return copy


@pytest.mark.slow  # a process for each plant, which imports the parsers with every branch of them counted
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.target)
def test_a_planted_bug_is_found(tree: Path, plant: Plant) -> None:
    if importlib.util.find_spec("atheris") is None:
        sentence = "atheris is not installed: pip install -e '.[fuzz]'"
        if os.environ.get(REQUIRE_PEERS) == "1":
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence)
    file = tree / "agentstream" / plant.file
    good = file.read_text()
    assert plant.good in good
    file.write_text(good.replace(plant.good, plant.bad))
    limits = ("--runs", "400000", "--seed", "1", "--findings", "found")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", *limits, plant.target],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        file.write_text(good)
    assert done.returncode == 1 and "failed: " in done.stdout, done.stdout + done.stderr
    (finding,) = re.findall(rf"again:  python -m tests\.fuzz\.one {plant.target} (\S+)", done.stdout)
    # It is the planted bug that was found: without it nothing is wrong with this input.
    TARGETS[plant.target].run((tree / finding).read_bytes())
