"""A wheel, an editable install and an sdist, each from a copy of this tree, in environments of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.interop.peers import sipp as s
from tests.interop.peers.captures import Capture, rtp_packets, streams
from tests.interop.peers.programs import SOUNDS, require
from tests.interop.peers.server import bot_flow, echo_bot, server
from tests.interop.peers.signals import encode, matching_runs, read_wav, track

ROOT = Path(__file__).parent.parent.parent

# Each fills an environment from a package index: half a minute, and it needs the network.
pytestmark = [
    pytest.mark.peers("sipp", "tcpdump"),
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("AGENTSTREAM_REQUIRE_PEERS") != "1",
        reason="AGENTSTREAM_REQUIRE_PEERS=1 installs into environments of their own, from a package index",
    ),
]


def run(*arguments: str | Path, cwd: Path) -> str:
    """Run to the end; its output, or the test fails with it."""
    done = subprocess.run(
        [str(argument) for argument in arguments], cwd=cwd, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, f"{arguments}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this tree without what builds and tools leave behind."""
    copy = tmp_path_factory.mktemp("source") / "agentstream"
    left_over = shutil.ignore_patterns(
        ".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "dropin.cache"
    )
    shutil.copytree(ROOT, copy, ignore=left_over)
    return copy


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the wheel and the sdist, built as a release is: the wheel from the unpacked sdist."""
    folder = tmp_path_factory.mktemp("built")
    tools = tmp_path_factory.mktemp("tools") / "env"
    venv.create(tools, with_pip=True, symlinks=True)
    run(tools / "bin" / "pip", "install", "-q", "build", cwd=folder)
    run(tools / "bin" / "python", "-m", "build", "-o", folder, tree, cwd=folder)
    yield folder


def test_sdist_holds_tests_docs_and_samples(built: Path, tree: Path) -> None:
    """Whoever packages agentstream gets what is needed to test it."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        str(path.relative_to(tree))
        for folder in ("tests", "docs", "etc", "agentstream", "applets", "twisted")
        for path in (tree / folder).rglob("*")
        if path.is_file()
    }
    wanted |= {"README.md", "LICENSE", "CHANGELOG.md", "setup.cfg", "setup.py", ".ruff.toml", ".ci/run"}
    assert wanted - names == set()


def test_wheel_holds_the_plugin_and_nothing_of_the_tests(built: Path) -> None:
    """twisted/plugins ships without an ``__init__.py``, which would overwrite Twisted's own."""
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert [name for name in names if name.startswith("twisted/plugins/")] == ["twisted/plugins/agentstream_plugin.py"]
    assert "twisted/__init__.py" not in names
    assert "applets/__init__.py" in names
    assert "agentstream/py.typed" in names
    assert any(name.startswith("agentstream/samples/") and name.endswith(".toml") for name in names)
    assert {f"agentstream/media/models/{name}" for name in ("silero_vad.onnx", "LICENSE.silero_vad")} <= names
    assert {"tests", "docs", "build"} & {name.partition("/")[0] for name in names} == set()


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_an_install_answers_a_call(kind: str, tree: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """In a clean environment, run from another folder: twistd knows agentstream, and a SIPp call hears its echo."""
    require(SOUNDS)
    programs = tmp_path / "env" / "bin"
    venv.create(programs.parent, with_pip=True, symlinks=True)
    if kind == "wheel":
        (wheel,) = request.getfixturevalue("built").glob("*.whl")
        run(programs / "pip", "install", "-q", wheel, cwd=tmp_path)
    else:
        run(programs / "pip", "install", "-q", "-e", tree, cwd=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = Path(
        run(programs / "python", "-c", "import agentstream; print(agentstream.__file__)", cwd=elsewhere).strip()
    )
    assert where.is_relative_to(tree if kind == "editable" else programs.parent)
    listed = run(programs / "twistd", "--help", cwd=elsewhere)
    assert any(line.split()[:1] == ["agentstream"] for line in listed.splitlines()), listed
    assert run(programs / "python", "-m", "pip", "check", cwd=elsewhere)

    raw = tmp_path / "speech.ul"
    raw.write_bytes(encode(read_wav(SOUNDS / "demo-congrats.wav"), 0))
    text = s.scenario(s.answered(s.offer()), s.play(str(raw)), s.pause(3000), s.STOP_PLAYING, s.hung_up())
    with ExitStack() as stack:
        bot = stack.enter_context(echo_bot(elsewhere, programs))
        flows = {"sample": bot_flow(f"{bot}/media?sample-rate=8000")}
        one = stack.enter_context(
            server(tmp_path / "config", flows, [("1000", "sample")], programs=programs, cwd=elsewhere)
        )
        capture = stack.enter_context(Capture(tmp_path, one.first_port, one.last_port))
        caller = stack.enter_context(s.sipp(tmp_path / "uac", one.address, text=text))
        caller.finish()
        found = streams(rtp_packets(capture.datagrams()))
    (sent,) = (stream for stream in found if stream.source[1] == caller.media_port)
    (heard,) = (stream for stream in found if stream.destination[1] == caller.media_port)
    runs = matching_runs(track(sent.audio(0)).payload, track(heard.audio(0)).payload)
    assert sum(one_run.length for one_run in runs) > 8000, f"the {kind} install echoed {runs}"
