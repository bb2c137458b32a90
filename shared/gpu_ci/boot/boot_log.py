"""Reads back what a boot script reports about its machine."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

PHASES: Final = ("network", "user", "download", "libraries", "setup", "gpu", "listen")


"""In this order; `setup` and `gpu` only where they are asked for."""


@dataclass(frozen=True, kw_only=True)
class BootReport:
    """What a boot script has reported about its machine so far.

    `phase` is the last of `PHASES` that was reported, "" before the first. `since` is when that
    phase began and `heard` when anything was last said, in seconds since the epoch by the machine's
    clock, 0 if never. `listening` says that the runner takes jobs, `gpu` describes what the gate
    found. `failed` and `ended` are reasons, "" while all is well. `tail` is the log's last 50 lines.
    """

    phase: str = ""
    since: int = 0
    heard: int = 0
    listening: bool = False
    gpu: str = ""
    failed: str = ""
    ended: str = ""
    tail: str = ""


_REPORT = re.compile(
    r"gpu-ci boot (?P<at>\d{1,12}) (?P<what>phase|beat|gpu|listening|failed|ended)\b ?(?P<rest>.*)"
)


# Colours, cursor moves and titles, which a console's log is full of.
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\r\n]*(\x07|\x1b\\)?|[@-Z\\^_=>])")


_TAIL = 50


def read_log(text: str) -> BootReport:
    """Read a boot's log or console, which may be cut, mixed with the kernel's lines and coloured.

    Of several boots, the last one counts.
    """
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", _ESCAPES.sub("", text))]
    report = BootReport()
    for line in lines:
        if found := _REPORT.search(line):
            report = _heard(report, int(found["at"]), found["what"], found["rest"].strip())
    return replace(report, tail="\n".join([line for line in lines if line][-_TAIL:]))


def _heard(report: BootReport, at: int, what: str, rest: str) -> BootReport:
    first, _, reason = rest.partition(" ")
    match what:
        case "phase":
            return _in_phase(BootReport() if first == PHASES[0] else report, at, first)
        case "beat":
            return _in_phase(report, at, first)
        case "failed" if not report.failed:  # the first reason is the cause of the others
            return replace(_in_phase(report, at, first), failed=reason or "no reason was given")
        case "gpu":
            return replace(report, heard=at, gpu=rest)
        case "ended":
            return replace(report, heard=at, ended=rest or "no reason was given")
        case _:
            return replace(report, heard=at, listening=report.listening or what == "listening")


def _in_phase(report: BootReport, at: int, phase: str) -> BootReport:
    """Take the phase from any line that names it: the one that began it may have been cut off."""
    if phase == report.phase or phase not in PHASES:
        return replace(report, heard=at)
    return replace(report, phase=phase, since=at, heard=at)
