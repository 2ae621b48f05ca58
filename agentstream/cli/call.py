"""``agentstream call URI``: a test phone on the command line; its exit status tells what came of the call."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console

from agentstream.cli.phone import CallResult, Errand, Phone, run_phone
from agentstream.cli.sound import expect_writable, load_sample_speech, load_sound
from agentstream.errors import AgentstreamError
from agentstream.rtp.events import DIGITS

EXIT_NO_WHOLE_CALL = 1
EXIT_USAGE = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("uri", metavar="URI", help="whom to call, such as sip:1000@127.0.0.1:5060")
    parser.add_argument("--wav", type=Path, metavar="FILE", help="what to say; default: a few shipped sentences")
    parser.add_argument(
        "--record", type=Path, metavar="OUT.wav", help="stereo WAV: left what was said, right what was heard"
    )
    parser.add_argument(
        "--dtmf", default="", metavar="DIGITS", help="send these (0-9, *, #, A-D) half a second after the answer"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="hang up so long after the answer; default: 2 s after the last word"
    )
    parser.add_argument(
        "--srtp",
        action="store_true",
        help="encrypt the sound; the keys go by SIP over UDP, so anybody there can read them",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def run(args: argparse.Namespace) -> int:
    """Call; 0: answered, sound both ways, ended cleanly. 1: refused, no sound, or lost. 2: wrong usage."""
    digits = args.dtmf.upper()
    if wrong := [digit for digit in digits if digit not in DIGITS]:
        print(f"agentstream: --dtmf has {wrong[0]!r}: use {DIGITS}.", file=sys.stderr)
        return EXIT_USAGE
    if args.seconds is not None and not 0 < args.seconds <= 86_400:
        print(f"agentstream: --seconds {args.seconds:g} is out of range: give up to 86400.", file=sys.stderr)
        return EXIT_USAGE
    console = Console(stderr=args.json, quiet=args.json, highlight=False, soft_wrap=True)

    def tell(kind: str, fields: dict[str, Any]) -> None:
        told = "  ".join(f"{name} {value}" for name, value in fields.items() if value != "")
        console.print(f"{kind.replace('_', ' '):12} {told}", markup=False)

    try:
        if args.record is not None:
            expect_writable(args.record)
        audio = load_sample_speech() if args.wav is None else load_sound(args.wav)
        phone = Phone.open(args.uri, Errand(audio, digits, seconds=args.seconds, srtp=args.srtp), tell)
    except AgentstreamError as error:
        print(f"agentstream: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        result = run_phone(phone)
        if args.record is not None and phone.line is not None:
            phone.line.recording.save(args.record)
    finally:
        phone.close()
    if args.json:
        said = {**result.as_json(), "recording": str(args.record) if args.record and phone.line else None}
        print(orjson.dumps(said).decode())
    else:
        show_result(console, result)
    return EXIT_NO_WHOLE_CALL if result.problem else 0


def show_result(console: Console, result: CallResult) -> None:
    """Print the statistics."""
    if result.codec:
        for name, value in (
            ("talked", f"{result.talk_s:.1f} s, {result.codec}"),
            ("sent", f"{result.sent} packets"),
            ("received", f"{result.received} packets, {result.lost} lost, {result.out_of_order} out of order"),
            ("jitter", f"{result.jitter_ms:.1f} ms"),
            ("silence", f"{result.silence_s:.1f} s of what was heard"),
            *([("digits", result.digits_heard)] if result.digits_heard else []),
        ):
            console.print(f"{name:12} {value}", markup=False)
    if result.problem:
        console.print(f"no whole call: {result.problem}", markup=False)
