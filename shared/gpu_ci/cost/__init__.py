"""The order of events of `gpu-ci cost`."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpu_ci.cost.mermaid import charts, fenced
from gpu_ci.cost.plot import draw
from gpu_ci.cost.table import KIND_HEAD, RUN_HEAD, aligned, by_kind, by_run, day, money
from gpu_ci.errors import BadInputs
from gpu_ci.github.client import GitHub
from gpu_ci.github.history import History
from gpu_ci.inputs.github_inputs import GitHubInputs
from gpu_ci.inputs.reader import CARRY_SECRETS, Reader
from gpu_ci.ledger.read_ledger import MOST_RUNS, month_of, read_ledger, sums
from gpu_ci.runtime import workflow_commands
from gpu_ci.runtime.clock import SYSTEM_CLOCK, Deadline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_ci.ledger.read_ledger import Ledger, LedgerLine
    from gpu_ci.runtime.clock import Clock

# Enough for a secondary limit of GitHub's, a minute; the hour of the primary one is too long.
PATIENCE: Final = 600.0


def cost(
    env: Mapping[str, str],
    *,
    since: str = "",
    workflow: str = "",
    plot: str = "",
    mermaid: bool = False,
    as_json: bool = False,
    clock: Clock = SYSTEM_CLOCK,
) -> None:
    """Read the ledger and show it. If a limit cut it short, show the rest and say what is missing.

    Raises BadInputs, EnvironmentBroken, or the GitHubError if nothing at all could be read.
    """
    workflow_commands.mask_secrets(env, CARRY_SECRETS)
    picture = _picture(plot)
    now = clock.now()
    began = _since(since, now)
    history = _connect(env, Deadline.after(PATIENCE, clock))
    ledger = read_ledger(history, began, workflow=workflow)
    if ledger.gap and not ledger.runs:
        raise ledger.gap
    title = f"GPU cost of {env['GITHUB_REPOSITORY']} since {day(began)}"
    if as_json:
        print(json.dumps(_as_json(ledger, history), indent=2))
    else:
        _print(ledger, title, history)
    if picture:
        draw(ledger, now, title, picture)
    if mermaid:
        _show_charts(ledger, now, title, printed=not as_json)
    for gap in _gaps(ledger):
        print(gap, file=sys.stderr)


def _picture(text: str) -> Path | None:
    if not text:
        return None
    file = Path(text)
    if not file.parent.is_dir():
        raise BadInputs([f"--plot is {text!r}; there is no folder {str(file.parent)!r}."])
    if file.is_dir():
        raise BadInputs([f"--plot is {text!r}; that is a folder: name a file in it."])
    return file


def _since(text: str, now: float) -> float:
    if not text:
        return month_of(now)
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
        try:
            return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
        except ValueError as error:
            raise BadInputs([f"--since is {text!r}: {error}."]) from error
    raise BadInputs([f"--since is {text!r}; it must be a day, such as 2026-11-01."])


def _connect(env: Mapping[str, str], deadline: Deadline) -> History:
    reader = Reader(env)
    inputs = GitHubInputs.read(reader, spare=env.get("GPU_CI_RUN_TOKEN", ""))
    reader.look_at_repository()
    reader.finish()
    repository = env["GITHUB_REPOSITORY"]
    github = GitHub.connect(
        replace(inputs, run_token=""),  # one token: the reader's, or the job's if there is none
        scope=f"repos/{repository}",
        repository=repository,
        deadline=deadline,
        say=lambda text: print(text, file=sys.stderr),
        mask=workflow_commands.mask,
    )
    return History.beside(github, deadline)


def _print(ledger: Ledger, title: str, history: History) -> None:
    print(title)
    if ledger.lines:
        print("", *aligned(RUN_HEAD, by_run(ledger)), sep="\n")
        print("", *aligned(KIND_HEAD, by_kind(ledger)), sep="\n")
    print(f"\nIn all: {money(ledger.lines)}, of {ledger.runs} runs ({history.counted} requests).")


def _show_charts(ledger: Ledger, now: float, title: str, *, printed: bool) -> None:
    drawn = charts(ledger, now, title)
    if printed:
        print(*(f"\n{chart}" for chart in drawn), sep="\n")
    table = (
        workflow_commands.table(KIND_HEAD, by_kind(ledger))
        if ledger.lines
        else "No machine was billed."
    )
    parts = [f"### {title}", *map(fenced, drawn), table, *_gaps(ledger)]
    workflow_commands.summary("\n\n".join(parts))


def _gaps(ledger: Ledger) -> list[str]:
    """Return a sentence for each thing that the figures lack."""
    gaps = []
    if not ledger.complete:
        why = str(ledger.gap) if ledger.gap else f"More than {MOST_RUNS} runs are not read."
        gaps.append(f"Runs before {_written(ledger.oldest)} are not in it. {why}")
    if ledger.unreadable:
        gaps.append(f"{len(ledger.unreadable)} line(s) of the ledger could not be understood.")
    return gaps


def _written(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _as_json(ledger: Ledger, history: History) -> dict[str, Any]:
    return {
        "since": day(ledger.since),
        "complete": ledger.complete,
        "gaps": _gaps(ledger),
        "runs": ledger.runs,
        "requests": history.counted,
        "totals": sums(ledger.lines),
        "machines": [_machine(line) for line in ledger.lines],
    }


def _machine(line: LedgerLine) -> dict[str, Any]:
    entry = line.entry
    return {
        "run": line.run.id,
        "workflow": line.run.name,
        "created_at": line.run.created_at,
        "job": line.job,
        **asdict(entry),
        "cost": entry.cost,
    }
