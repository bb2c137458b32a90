"""Shows why a step failed: in the log, on the job's page, and for a bug report."""

from __future__ import annotations

import os
import platform
import sys
import tomllib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpu_ci.errors import StartFailed, Unexpected
from gpu_ci.runtime import workflow_commands
from gpu_ci.runtime.redaction import redacted
from gpu_ci.runtime.signals import Cancelled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpu_ci.errors import GpuCiError

ISSUES: Final = "https://github.com/org/gpu-ci/issues"
# The most characters of one part on the page: three such parts fit, in any script.
PART_LIMIT: Final = 20_000
ROOT: Final = Path(__file__).resolve().parents[3]


def show(failure: GpuCiError | Cancelled) -> int:
    """Show why the step fails, what to do, and what is left behind; return its exit code.

    The log gets an annotation for each paragraph, and the end of a boot log; the job's page gets the
    same without that log, which is not ours to publish.
    """
    workflow_commands.error("\n\n".join([str(failure), *_notes(failure)]))
    if isinstance(failure, StartFailed) and failure.tail:
        with workflow_commands.group("The end of the machine's boot log"):
            workflow_commands.quote(failure.tail)
    if isinstance(failure, Cancelled) or not failure.on_the_page:
        _add_to_page(failure)
    return failure.exit_code


def show_bug(bug: Exception) -> int:
    """Show what a bug report needs, and where to send it; return the exit code of a bug.

    It holds no secret: local variables are not shown, and messages from elsewhere are redacted.
    """
    shown = redacted("".join(traceback.format_exception(bug))).splitlines()
    workflow_commands.quote(shown, sys.stderr)
    workflow_commands.quote(["", *map(redacted, versions())], sys.stderr)
    # A SyntaxError's place comes before its own line, indented; any notes come after it.
    said = next(each for each in traceback.format_exception_only(bug) if not each.startswith(" "))
    failure = Unexpected(
        f"gpu-ci has a bug ({' '.join(redacted(said).split())}).",
        f"Report it at {ISSUES}, with the traceback and the versions from the log; secrets are taken "
        "out of them, but check before you post.",
    )
    for note in _notes(bug):
        failure.add_note(redacted(note))
    return show(failure)


def versions() -> Iterator[str]:
    """Yield the versions of gpu-ci, of Python and its platform, and of the packages in use."""
    action, ref = (os.environ.get(f"GITHUB_ACTION_{name}", "") for name in ("REPOSITORY", "REF"))
    yield f"gpu-ci {_own_version()}" + (f" ({action}@{ref})" if action and ref else "")
    yield f"Python {platform.python_version()} on {platform.platform()}"
    loaded = {
        name: vars(module).get("__version__")
        for name, module in sorted(sys.modules.items())
        if "." not in name and name not in sys.stdlib_module_names
    }
    yield ", ".join(
        f"{name} {number}" for name, number in loaded.items() if isinstance(number, str)
    )


def _own_version() -> str:
    """Return the version of this checkout, else of what is installed."""
    project = ROOT / "pyproject.toml"
    if project.exists() and (ROOT / "shared" / "gpu_ci").is_dir():
        return str(tomllib.loads(project.read_text())["project"]["version"])
    from importlib import metadata  # noqa: PLC0415 -- slow to load, and only a bug needs it

    return metadata.version("gpu-ci")


def _notes(failure: BaseException) -> list[str]:
    notes: list[str] = getattr(failure, "__notes__", [])
    return notes


def _add_to_page(failure: GpuCiError | Cancelled) -> None:
    """A page that cannot be written must not hide what the log has just shown."""
    try:
        workflow_commands.summary(_page(failure))
    except OSError as error:
        workflow_commands.warning(f"This error could not be added to the job's summary: {error}.")


def _page(failure: GpuCiError | Cancelled) -> str:
    name, code = type(failure).__name__, failure.exit_code
    if isinstance(failure, Cancelled):
        head, what, cure = "gpu-ci was cancelled", str(failure), ""
    else:
        head, what, cure = f"gpu-ci failed: {name}", failure.what, failure.cure
    parts = [f"### {head} (exit code {code})"]
    parts += _paragraphs("Cause", what)
    parts += _paragraphs("What to do", cure)
    parts += _paragraphs("Also", "\n\n".join(_notes(failure)))
    return "\n\n".join(parts)


def _paragraphs(about: str, text: str) -> Iterator[str]:
    """Yield Markdown for plain text. Secrets are removed first: escapes would disguise them."""
    clean = redacted(text)
    if len(clean) > PART_LIMIT:
        clean = f"{clean[:PART_LIMIT]} … The rest is in the log."
    for paragraph in clean.split("\n\n"):
        if paragraph.strip():
            yield f"**{about}:** {workflow_commands.plain(paragraph)}"
