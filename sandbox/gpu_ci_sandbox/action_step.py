"""Runs an action.yml as GitHub's runner does: its own `run:` and `env:`, files for outputs, masks.

Only composite actions with one `run` step are known here, which is what this library ships.
"""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# How the runner calls `shell: bash` (docs: workflow syntax, jobs.<id>.steps[*].shell).
BASH: Final = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail")
# A cancel is SIGINT, then SIGTERM after 7.5 s, then a kill 2.5 s later (runner, ProcessInvoker).
TERM_AFTER: Final = 7.5
KILL_AFTER: Final = 2.5
EXPRESSION: Final = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")
FILES: Final = ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STATE")


class ActionBroken(Exception):
    """The action.yml, or what its step wrote, is something that the runner would refuse."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished step leaves; `outputs` are the action's, without those that hold a mask."""

    exit_code: int
    outputs: dict[str, str]
    dropped: tuple[str, ...]
    summary: str
    log: str
    masks: tuple[str, ...]


@dataclass(kw_only=True)
class Step:
    """A running step of an action."""

    process: subprocess.Popen[str]
    action: dict[str, Any]
    folder: Path
    on_line: Callable[[str], None] | None = None
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self.process.stdout is None:
            return
        with self.process.stdout as stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))
                if self.on_line:
                    self.on_line(self.lines[-1])

    def cancel(self) -> None:
        """Cancel the step as the runner does, and return when its process is gone."""
        for signum, seconds in ((signal.SIGINT, TERM_AFTER), (signal.SIGTERM, KILL_AFTER)):
            self.process.send_signal(signum)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
            return
        self.process.kill()
        self.process.wait()

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the step's end. Raises subprocess.TimeoutExpired, ActionBroken."""
        exit_code = self.process.wait(timeout)
        self._reader.join(timeout)
        masks = tuple(masks_in(self.lines))
        written = read_commands((self.folder / "GITHUB_OUTPUT").read_text())
        outputs = {
            name: str(_fill(spec["value"], _step_outputs(self.action, written)))
            for name, spec in self.action.get("outputs", {}).items()
        }
        dropped = {name for name, value in outputs.items() if any(mask in value for mask in masks)}
        return Result(
            exit_code=exit_code,
            outputs={name: value for name, value in outputs.items() if name not in dropped},
            dropped=tuple(sorted(dropped)),
            summary=(self.folder / "GITHUB_STEP_SUMMARY").read_text(),
            log="\n".join(self.lines),
            masks=masks,
        )


def begin(
    action_folder: Path,
    inputs: Mapping[str, str],
    env: Mapping[str, str],
    contexts: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Step:
    """Start the action's step.

    `env` is the job's environment with the runner's default variables; `contexts` has values for
    expressions such as `github.token`; what it lacks is empty, as on the runner.
    """
    action = yaml.safe_load((action_folder / "action.yml").read_text())
    step = _only_step(action)
    known = {f"inputs.{name}": value for name, value in _with_defaults(action, inputs, env).items()}
    known |= {"github.api_url": env.get("GITHUB_API_URL", ""), **(contexts or {})}
    files = Path(tempfile.mkdtemp(prefix="step-", dir=env["RUNNER_TEMP"]))
    for name in FILES:
        (files / name).touch()
    script = files / "script.sh"
    script.write_text(step["run"])
    process = subprocess.Popen(
        [*BASH, str(script)],
        env={
            **env,
            **{name: str(files / name) for name in FILES},
            **{name: str(_fill(value, known)) for name, value in step.get("env", {}).items()},
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(action_folder),
        },
        cwd=env.get("GITHUB_WORKSPACE", str(files)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    return Step(process=process, action=action, folder=files, on_line=on_line)


def _only_step(action: Mapping[str, Any]) -> dict[str, Any]:
    steps = action["runs"]["steps"]
    if action["runs"]["using"] != "composite" or len(steps) != 1 or steps[0]["shell"] != "bash":
        raise ActionBroken("only composite actions with one bash step are known here")
    step: dict[str, Any] = steps[0]
    if "${{" in step["run"]:
        raise ActionBroken("an expression is spliced into the script")
    return step


def _with_defaults(
    action: Mapping[str, Any], inputs: Mapping[str, str], env: Mapping[str, str]
) -> dict[str, str]:
    """Return every declared input. An undeclared one is only a warning on GitHub; here it breaks."""
    declared = action.get("inputs", {})
    if unknown := set(inputs) - set(declared):
        raise ActionBroken(f"unexpected inputs: {sorted(unknown)}")
    api_url = {"github.api_url": env.get("GITHUB_API_URL", "")}
    return {
        name: inputs.get(name, str(_fill(spec.get("default", ""), api_url)))
        for name, spec in declared.items()
    }


def _fill(text: object, known: Mapping[str, str]) -> str:
    """Replace each expression by its value; a name that nothing has is empty, as on the runner."""
    filled = EXPRESSION.sub(lambda match: known.get(match[1], ""), str(text))
    if "${{" in filled:
        raise ActionBroken(f"an expression that is not a plain name: {text}")
    return filled


def _step_outputs(action: Mapping[str, Any], written: Mapping[str, str]) -> dict[str, str]:
    step_id = _only_step(action)["id"]
    return {f"steps.{step_id}.outputs.{name}": value for name, value in written.items()}


def read_commands(text: str) -> dict[str, str]:
    """Read a file of `name=value` and `name<<END` entries (runner, FileCommandManager)."""
    entries: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        name, equals, value = line.partition("=")
        heredoc, marker, end = line.partition("<<")
        if marker and (not equals or len(heredoc) < len(name)):
            entries[heredoc] = "\n".join(_until(lines, end))
        elif equals:
            entries[name] = value
        elif line:
            raise ActionBroken(f"invalid format {line!r}")
    return entries


def _until(lines: Any, end: str) -> list[str]:
    value: list[str] = []
    for line in lines:
        if line == end:
            return value
        value.append(line)
    raise ActionBroken(f"matching delimiter not found {end!r}")


def masks_in(lines: list[str]) -> list[str]:
    """Return what `::add-mask::` commands hide: each value, and every line of it."""
    found = []
    for line in lines:
        if line.startswith("::add-mask::"):
            value = line.removeprefix("::add-mask::")
            whole = value.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")
            found += [whole, *whole.splitlines()]
    return [mask for mask in dict.fromkeys(found) if mask.strip()]
