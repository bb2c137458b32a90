"""The runner's language: masks, groups, annotations, outputs, the job summary.

In a terminal the same calls print plain text. Parts of `actions_toolkit` write the
commands themselves; its `core` would also load what asks for OIDC tokens. What it lacks (a job
summary, text that must not be read as commands) is here.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from actions_toolkit.command import issue, issue_command
from actions_toolkit.file_command import issue_file_command, prepare_key_value_message

from gpu_ci.runtime.redaction import remember

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

    from gpu_ci.errors import GpuCiError

# The runner drops a summary of more than 1 MiB with a message (actions/runner, file commands).
SUMMARY_LIMIT = 1024 * 1024
_printed: dict[str, str] = {}
_one_at_a_time = threading.Lock()


def on_runner() -> bool:
    """Say whether a workflow's step is running, rather than a terminal."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def mask(secret: str) -> None:
    """Have the runner print *** for the secret and for each of its lines, in this job."""
    remember(secret)
    if secret.strip() and on_runner():
        issue_command("add-mask", {}, secret)
        sys.stdout.flush()


def mask_secrets(env: Mapping[str, str], names: Iterable[str]) -> None:
    """Mask what these variables hold; call it before anything else prints."""
    for name in names:
        mask(env.get(name, ""))


def say(text: str) -> None:
    """Print a line; the runner obeys no command in it, whatever a cloud or a machine wrote."""
    with _one_at_a_time:
        print("\n".join(map(_harmless, text.splitlines())))
        sys.stdout.flush()


def _harmless(line: str) -> str:
    """Break what the runner takes for a command: a line that begins with ::, and ##[ anywhere."""
    line = line.replace("##[", "# #[")
    return f"| {line}" if line.lstrip().startswith("::") else line


def quote(lines: Iterable[str], terminal: TextIO | None = None) -> None:
    """Print what came from elsewhere; the runner obeys no command in it.

    `terminal` is where it goes when no runner reads it, by default standard output.
    """
    end = secrets.token_hex(16)
    stream = sys.stdout if on_runner() or terminal is None else terminal
    if on_runner():
        print(f"::stop-commands::{end}")
    for line in lines:
        print(f"  {line}", file=stream)
    if on_runner():
        print(f"::{end}::")
    stream.flush()


@contextmanager
def group(title: str) -> Iterator[None]:
    """Fold what is printed inside."""
    if not on_runner():
        say(title)
        yield
        return
    issue("group", title)
    try:
        yield
    finally:
        issue("endgroup")


def notice(text: str, *, title: str = "") -> None:
    """Leave an annotation that stays with the job; in a terminal, print it."""
    if on_runner():
        issue_command("notice", {"title": title} if title else {}, text)
        sys.stdout.flush()
    else:
        say(text)


def warning(text: str) -> None:
    issue("warning", text) if on_runner() else say(f"Warning: {text}")


def error(failure: GpuCiError | str) -> None:
    """Show why the step fails: an annotation for each paragraph."""
    for paragraph in str(failure).split("\n\n"):
        issue("error", paragraph) if on_runner() else print(f"Error: {paragraph}", file=sys.stderr)
    sys.stdout.flush()


def output(name: str, value: str) -> None:
    """Set an output of the step; in a terminal, print it when it is new."""
    if os.environ.get("GITHUB_OUTPUT"):
        issue_file_command("OUTPUT", prepare_key_value_message(name, value))
    elif _printed.get(name) != value:
        _printed[name] = value
        say(f"{name}: {value}")


def export(name: str, value: str) -> None:
    """Set a variable for this job's later steps; in a terminal, print it as a shell takes it."""
    if os.environ.get("GITHUB_ENV"):
        issue_file_command("ENV", prepare_key_value_message(name, value))
    else:
        say(f"export {name}={shlex.quote(value)}")


def add_path(folder: str) -> None:
    """Put a folder first on PATH for this job's later steps; in a terminal, print how."""
    if os.environ.get("GITHUB_PATH"):
        issue_file_command("PATH", folder)
    else:
        say(f'export PATH={shlex.quote(folder)}:"$PATH"')


def as_json(value: object) -> str:
    """Return compact JSON, for outputs that `fromJSON` reads."""
    return json.dumps(value, separators=(",", ":"))


def summary(markdown: str) -> None:
    """Add to the job's summary page; nothing in a terminal, where the log says it all."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    file = Path(path)
    taken = file.stat().st_size if file.exists() else 0
    data = (markdown.rstrip() + "\n\n").encode(errors="replace")  # a file's name may not be text
    if taken + len(data) <= SUMMARY_LIMIT:
        with file.open("ab") as stream:
            stream.write(data)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table; the cells are text, not Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(plain(cell) for cell in line) + " |" for line in lines)


def plain(value: object) -> str:
    """Return one line that Markdown shows as it is, inside a paragraph or a cell."""
    return re.sub(r"[\\`*_\[\]|<>~$&]", r"\\\g<0>", " ".join(str(value).split()))
