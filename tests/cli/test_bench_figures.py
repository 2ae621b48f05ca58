"""The bench's judgements, of figures made by hand: variants, slopes, the knee, what is left over, tables, pictures."""

from __future__ import annotations

import io
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from rich.console import Console

from agentstream.cli.bench import command, sheets
from agentstream.cli.bench.analysis import Steady
from agentstream.cli.bench.churn import GAUGES, growth_kb, left_over
from agentstream.cli.bench.measure import is_clean, said_of_soak
from agentstream.cli.bench.plot import Curve, draw, nice_top, of_ramp
from agentstream.cli.bench.profile import Profile, reason
from agentstream.cli.bench.ramp import find_knee
from agentstream.cli.bench.scrape import TICK, Scrape, parse, percentile_ms
from agentstream.cli.bench.sip_rate import is_good as sip_is_good
from agentstream.cli.bench.slope import fit
from agentstream.cli.bench.variants import SUITES, Variant, compare, product, turns
from agentstream.cli.commands import build_parser
from agentstream.errors import AgentstreamError

# Variants


def test_every_combination_is_a_variant_and_rounds_turn_back() -> None:
    variants = product([100, 20], [8000], [False, True], ["on"], [60])
    assert [each.label() for each in variants] == [
        "100 ms, 8000 Hz",
        "100 ms, 8000 Hz, recorded",
        "20 ms, 8000 Hz",
        "20 ms, 8000 Hz, recorded",
    ]
    assert product([100, 100], [8000], [False], ["off"], [60]) == [Variant(vad="off")]
    assert [Variant(vad=vad).label() for vad in ("off", "silero")] == [
        "100 ms, 8000 Hz, no VAD",
        "100 ms, 8000 Hz, silero",
    ]
    assert [each.label() for each in product([100], [8000], [False], ["on"], [60], SUITES.values())] == [
        "100 ms, 8000 Hz",
        "100 ms, 8000 Hz, SRTP AES_CM_128_HMAC_SHA1_80",
        "100 ms, 8000 Hz, SRTP AEAD_AES_128_GCM",
    ]
    one, other = variants[:2]
    assert turns([one, other], 3) == [one, other, other, one, one, other]


def run(variant: str, cpu: float, **more: Any) -> dict[str, Any]:
    names = ("bot_to_rtp_p95_ms", "clear_to_silence_p95_ms", "rtp_to_bot_p95_ms", "egress_p99_ms", "tick_p99_ms")
    figures = dict.fromkeys(names, 1.0)
    floor = {"floor_percent_per_call": 0.04, "frames_lost": 0}
    return {"variant": variant, "cpu_percent_per_call": cpu, **figures, **floor, **more}


def test_variants_are_compared_by_their_medians() -> None:
    runs = [run("a", 0.10), run("b", 0.15), run("b", 0.25), run("a", 0.12), run("a", 0.9), run("b", 0.18)]
    runs[1] |= {"tick_p99_ms": None, "frames_lost": 2}
    one, other = compare(runs)
    assert (one["cpu_percent_per_call"], other["cpu_percent_per_call"]) == (0.12, 0.18)
    assert (one["ratio_to_first"], other["ratio_to_first"], one["ratio_to_floor"]) == (1.0, 1.5, 3.0)
    assert (other["cpu_each"], other["tick_p99_ms"], other["frames_lost"]) == ([0.15, 0.25, 0.18], 1.0, 2)
    assert compare([run("a", 0.1, tick_p99_ms=None)])[0]["tick_p99_ms"] is None


# Slopes


def test_a_line_through_points_and_how_sure_it_is() -> None:
    line = fit([(0, 5), (1, 7), (2, 9), (4, 13)])
    assert (line.slope, line.at_zero, line.error) == pytest.approx((2, 5, 0))
    rng = np.random.default_rng(1)
    noisy = [(float(x), 3.0 * x + float(rng.normal(0, 1))) for x in range(100)]
    found = fit(noisy)
    assert abs(found.slope - 3) < 3 * found.error < 0.05
    assert found.slope == pytest.approx(np.polyfit(*np.array(noisy).T, 1)[0])


def test_no_line_through_one_place() -> None:
    assert all(math.isnan(value) for value in (fit([]).slope, fit([(1, 1)]).slope, fit([(1, 1), (1, 2)]).slope))
    assert math.isnan(fit([(0, 0), (1, 1)]).error)


def test_growth_is_counted_from_the_warm_up_on() -> None:
    warm = [(float(at), 20 * at, 50_000_000 + 1_000_000 * at) for at in range(10)]
    then = [(float(at), 20 * at, 60_000_000 + 20 * at * 500) for at in range(10, 40)]
    slope, error, counted = growth_kb(warm + then, 10.0)
    assert slope == pytest.approx(0.5) and error < 1e-9 and counted == 20 * 29
    assert math.isnan(growth_kb(warm, 99.0)[0])


def test_a_soak_says_when_what_was_lost() -> None:
    none = np.empty(0)
    steady = Steady(1000, 3, 0, 0, none, none, none, lost_at_s=np.array([0.5, 95.0, 99.9]))
    said = said_of_soak([(float(at), 80_000_000 + 1000 * at) for at in range(0, 100, 10)], 10, steady, 100.0)
    assert (said["memory_kb_a_minute"], said["memory_kb_a_minute_and_call"]) == (60.0, 6.0)
    assert [count for _, count in said["frames_lost_over_time"]] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 2]


# The knee


def step(calls: int, **more: Any) -> dict[str, Any]:
    fine = {
        "refused": 0,
        "calls_dropped": 0,
        "frames_lost": 0,
        "burst_frames_lost": 0,
        "frames_foreign": 0,
        "egress_p99_ms": 4.9,
        "tick_late_p99_ms": 9.0,
        "load_latest_ms": 3.0,
    }
    shown = {
        "cpu_percent_per_call": 0.1,
        "floor_percent_per_call": 0.04,
        "rtp_to_bot_p99_ms": 40.0,
        "bot_to_rtp_p99_ms": 20.0,
        "clear_to_silence_p95_ms": 19.0,
        "tick_p99_ms": 2.0,
        "memory_mb": 90.0,
        "load_percent": 20.0,
        "sink_percent": 10.0,
        "others_percent": 1.0,
    }
    return {"calls": calls, **fine, **shown, **more}


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"frames_lost": 1}, "1 frames lost"),
        ({"burst_frames_lost": 2}, "2 frames lost"),
        ({"frames_foreign": 1}, "1 frames heard by another call"),
        ({"refused": 3}, "3 calls refused"),
        ({"calls_dropped": 3}, "3 calls ended by the server"),
        ({"egress_p99_ms": 5.1}, "packets 5.1 ms off their grid (p99)"),
        ({"tick_late_p99_ms": 12.0}, "ticks 12.0 ms late (p99)"),
    ],
)
def test_the_knee_is_the_first_step_that_breaks_a_promise(figures: dict[str, Any], reason: str) -> None:
    knee = find_knee([step(100), step(200), step(300, **figures), step(400, frames_lost=9)])
    assert knee is not None
    assert (knee.calls, knee.holds, knee.reasons, knee.is_of_server) == (300, 200, (reason,), True)


def test_no_knee_and_a_load_that_was_too_late() -> None:
    unknown = {"egress_p99_ms": None, "tick_late_p99_ms": None}
    assert find_knee([step(100), step(200, **unknown)]) is None
    knee = find_knee([step(100, frames_lost=1, load_latest_ms=70.0)])
    assert knee is not None and (knee.holds, knee.is_of_server) == (0, False)


# What the server says of itself

METRICS = """# TYPE agentstream_tick_duration_seconds histogram
agentstream_tick_duration_seconds_bucket{le="0.001",node="n"} %d
agentstream_tick_duration_seconds_bucket{le="0.002",node="n"} %d
agentstream_tick_duration_seconds_bucket{le="+Inf",node="n"} %d
agentstream_tick_duration_seconds_count{node="n"} %d
agentstream_tick_duration_seconds_sum{node="n"} 1.0
# TYPE agentstream_calls gauge
agentstream_calls{node="n"} %d
"""


def test_a_percentile_of_what_was_counted_between_two_readings() -> None:
    before, after = parse(METRICS % (100, 100, 100, 100, 0)), parse(METRICS % (150, 200, 200, 200, 7))
    assert after.values["agentstream_calls"] == 7
    assert percentile_ms(before, after, TICK, 50) == pytest.approx(1.0)
    assert percentile_ms(before, after, TICK, 75) == pytest.approx(1.5)
    assert math.isnan(percentile_ms(after, after, TICK, 99))
    assert math.isnan(percentile_ms(Scrape({}, {}), Scrape({}, {}), TICK, 99))
    beyond = parse(METRICS % (100, 100, 200, 200, 0))
    assert percentile_ms(before, beyond, TICK, 99) == pytest.approx(2.0)


def test_what_is_left_over_is_named() -> None:
    empty = Scrape(dict.fromkeys(GAUGES, 0.0), {})
    assert left_over(empty, empty, (20, 20)) == {}
    full = Scrape({**empty.values, "agentstream_legs": 2.0}, {})
    assert left_over(empty, full, (20, 23)) == {"legs": 2, "open_files": 3}


# Calls without sound


def sip_said(**more: Any) -> dict[str, Any]:
    names = ("setup_p50_ms", "setup_p99_ms", "setup_most_ms", "cpu_percent", "load_percent", "others_percent")
    figures = dict.fromkeys((*names, "load_latest_ms", "tick_p99_ms", "tick_late_p99_ms"), 1.0)
    counts = dict.fromkeys(("repeated", "unanswered", "frames_lost", "calls_beside"), 0)
    head = {"mode": "sip", "calls_a_second": 400.0, "seconds": 10.0, "calls": 4000, "refused": {}, "left_over": {}}
    return {**head, **figures, **counts, "setup_p95_ms": 3.0, **more}


@pytest.mark.parametrize(
    "wrong",
    [
        {"setup_p95_ms": 20.5},
        {"setup_p95_ms": None},
        {"repeated": 1},
        {"refused": {"503": 2}},
        {"unanswered": 1},
        {"frames_lost": 1},
        {"left_over": {"sip_transactions": 3}},
    ],
)
def test_what_a_rate_of_calls_may_not_show(wrong: dict[str, Any]) -> None:
    assert sip_is_good(sip_said())
    assert not sip_is_good(sip_said(**wrong))


def test_the_table_of_a_rate_of_calls() -> None:
    sheet = sheets.of_sip_rate(sip_said(left_over={"sip_transactions": 3}, calls_beside=200, frames_lost=2))
    assert sheet.title == "400 calls a second without sound for 10 s, beside 200 two-way calls"
    cells = {row[0]: row[1] for row in sheet.rows}
    assert (cells["INVITE to 200, p95"], cells["left over"]) == ("3.00", "sip_transactions 3")
    assert cells["frames lost of the calls beside"] == "2"
    assert sheets.of_sip_rate(sip_said()).rows[9][1] == sheets.DASH


# Tables and pictures


def ramp_said() -> dict[str, Any]:
    steps = [step(100), step(200, bot_to_rtp_p99_ms=None), step(300, frames_lost=4)]
    knee = {"calls": 300, "holds": 200, "reasons": ["4 frames lost"], "is_of_server": True}
    head = {
        "mode": "ramp",
        "command": "agentstream bench --ramp",
        "machine": "m",
        "commit": "abc",
        "date": "2026-01-02",
    }
    return {
        **head,
        "pinning": "p",
        "variant": "v",
        "seconds": 20.0,
        "memory_mb_per_call": 0.2,
        "knee": knee,
        "steps": steps,
    }


def test_a_section_of_the_page_says_its_command_and_its_machine() -> None:
    text = sheets.markdown(ramp_said())
    assert text.startswith("```\nagentstream bench --ramp\n```\n\nm; p; commit abc, 2026-01-02.\n")
    assert "| 100 | 0.1000 | 0.0400 | 0 | 40.0 | 20.0 |" in text and f"| {sheets.DASH} |" in text
    assert "The knee: 300 calls (4 frames lost). It holds 200." in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1 and len(rows) == 2 + 3


def test_a_ramp_without_a_knee_says_so() -> None:
    said = ramp_said()
    assert sheets.knee_sentence({**said, "knee": None}) == "No knee up to 300 calls."
    said["knee"]["is_of_server"] = False
    assert "not the server's" in sheets.knee_sentence(said)


def test_it_is_shown_on_a_terminal() -> None:
    console = Console(width=250, record=True, file=io.StringIO())
    sheets.show(ramp_said(), console)
    said = console.export_text()
    assert "It holds 200" in said and "commit abc" in said and "4.90" in said


def test_axes_end_at_round_numbers() -> None:
    assert [nice_top(most) for most in (0.0, 0.13, 0.2, 99, 100, 600)] == [1.0, 0.2, 0.2, 100, 100, 1000]


def test_a_ramp_is_a_picture_that_skips_what_was_not_measured() -> None:
    root = ElementTree.fromstring(of_ramp(ramp_said()))
    lines = [each for each in root if each.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [3, 3, 3, 2, 3]
    words = "".join(each.text or "" for each in root.iter())
    assert "knee" in words and "commit abc" in words


def test_a_curve_stands_where_its_axis_says() -> None:
    curves = [Curve("a <b>", "#000", (0.0, 10.0)), Curve("c", "#111", (5.0, 5.0), is_right=True)]
    root = ElementTree.fromstring(draw("t", [0, 100], curves, "l", "r", None))
    first, second = [each.attrib["points"].split() for each in root if each.tag.endswith("polyline")]
    assert first == ["64.0,364.0", "696.0,48.0"]
    assert second == ["64.0,48.0", "696.0,48.0"]  # 5 is the top of its axis


def test_the_page_is_made_of_what_json_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ramp.json"
    file.write_bytes(orjson.dumps(ramp_said()))
    assert command.run(build_parser("bench").parse_args(["bench", "--markdown", str(file), str(file)])) == 0
    assert capsys.readouterr().out.count("```\nagentstream bench --ramp\n```") == 2


def test_the_command_is_told_without_how_it_is_told() -> None:
    words = ["/x/agentstream", "bench", "--ramp", "--plot", "docs/a b.svg", "--json", "--calls", "5"]
    assert command._command(words) == "agentstream bench --ramp --calls 5"


def test_a_loss_a_stranger_and_a_lost_call_are_not_clean() -> None:
    fine = {"frames_sent": 5, "frames_lost": 0, "frames_foreign": 0, "burst_frames_lost": 0, "calls_dropped": 0}
    assert is_clean(fine)
    assert not any(is_clean({**fine, name: 1}) for name in fine if name != "frames_sent")
    assert not is_clean({**fine, "frames_sent": 0})


# The profile


def test_a_profile_that_cannot_be_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *args, **more: None)
    with pytest.raises(AgentstreamError, match=r"pip install 'agentstream\[bench\]'"):
        Profile(tmp_path / "x.svg")
    assert "SYS_PTRACE" in reason("Error: Permission denied (os error 13)", 1)
    assert reason("one\nError: no such process\n", 1) == "py-spy ended with exit status 1: Error: no such process"
    assert reason("", 2) == "py-spy ended with exit status 2: it said nothing"


def test_a_profiler_that_fails_is_an_error(tmp_path: Path) -> None:
    profile = Profile(tmp_path / "x.svg", tool="/bin/false")
    profile.finish()  # nothing was begun
    profile.begin(1, 1.0)
    with pytest.raises(AgentstreamError, match="py-spy ended with exit status 1"):
        profile.finish()
