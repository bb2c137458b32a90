"""MkDocs hook: makes the pages that say what the code says, and lets links to files lead to pages."""
# ruff: noqa: INP001 -- MkDocs loads it by its path

from __future__ import annotations

import ast
import inspect
import posixpath
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[1]
# Where the files are that are no page of the site.
SOURCE: Final = "https://github.com/org/gpu-ci/blob/main/"
# The site's page for a file that stands elsewhere in the repository.
PAGES: Final[Mapping[str, str]] = {
    "README.md": "index.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    **{
        f"{path.parent.name}/README.md": f"reference/{path.parent.name}.md"
        for path in sorted(ROOT.glob("action-*/README.md"))
    },
}
LINK: Final = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
CODE: Final = re.compile(r"(```.*?```)", re.DOTALL)
MERMAID: Final = re.compile(r"```mermaid\n.*?```", re.DOTALL)
FLOW: Final = "![What one call of gpu-job.yml does](flow.svg)"
PLACEHOLDER: Final = "…"
# A text of fewer is what somebody else said, with a word of ours.
LEAST_LETTERS: Final = 10
# Where the table of AWS's codes is.
OF_AWS: Final = "gpu_ci.providers.ec2.aws_errors"
ERRORS: Final = """\
# Errors, by what they say

Search this page for the beginning of the message. `…` stands for what is filled in: a name, a number, what somebody
else said. The number is the step's exit code. What is wrong with an input is said of that input, all at once.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file of `docs/` holds."""
    for name, text in generated().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 -- MkDocs calls it so
    """Lead links to pages, and show the drawing where GitHub draws it from text."""
    uri = page.file.src_uri
    drawn = MERMAID.sub(FLOW, markdown) if uri == "index.md" else markdown
    return with_links(drawn, uri)


def generated() -> dict[str, str]:
    """Return the text of each page that is made, by its name in the site."""
    pages = {uri: (ROOT / path).read_text() for path, uri in PAGES.items()}
    return pages | {
        "reference/workflows.md": workflows_page(),
        "reference/errors.md": errors_page(),
    }


# Links


def with_links(markdown: str, uri: str) -> str:
    """Return a page's text with its links as they must be on the site."""
    file = next((path for path, page in PAGES.items() if page == uri), f"docs/{uri}")
    parts = CODE.split(markdown)
    return "".join(
        part if part.startswith("```") else LINK.sub(lambda found: _link(found, file, uri), part)
        for part in parts
    )


def _link(found: re.Match[str], file: str, uri: str) -> str:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(file), found[1]))
    anchor = found[2] or ""
    if target in PAGES or target.startswith("docs/"):
        page = PAGES.get(target, target.removeprefix("docs/"))
        return posixpath.relpath(page, posixpath.dirname(uri) or ".") + anchor
    if (ROOT / target).exists():
        return f"{SOURCE}{target}{anchor}"
    return found[0]


# The callable workflows


def workflows_page() -> str:
    """Return the inputs, secrets and outputs of each workflow that others call."""
    head = "# Callable workflows\n\nWhat each of them takes and gives, and the rights that its caller grants.\n"
    return "\n".join([head, *(_workflow(path) for path in _callable())])


def _callable() -> Iterator[Path]:
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        if "workflow_call" in _triggers(path):
            yield path


def _triggers(path: Path) -> Mapping[str, Any]:
    loaded = yaml.safe_load(path.read_text())
    triggers: Mapping[str, Any] = loaded[True]  # YAML 1.1 reads the word `on` so
    return triggers


def _workflow(path: Path) -> str:
    told = _triggers(path)["workflow_call"] or {}
    about = [line[2:] for line in path.read_text().split("name:")[0].splitlines() if line]
    inputs = [
        (f"`{name}`", _described(spec), _code(spec.get("default", "")))
        for name, spec in told.get("inputs", {}).items()
    ]
    secrets = [(f"`{name}`", _described(spec)) for name, spec in told.get("secrets", {}).items()]
    outputs = [(f"`{name}`", _described(spec)) for name, spec in told.get("outputs", {}).items()]
    return "\n".join(
        [
            f"## `{path.name}`\n",
            " ".join(about) + "\n",
            f"Its caller grants: {_rights(path)}.\n",
            _table(("Input", "Meaning", "Default"), inputs),
            _table(("Secret", "Meaning"), secrets),
            _table(("Output", "Meaning"), outputs),
        ]
    )


def _rights(path: Path) -> str:
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    rights: dict[str, str] = {}
    for job in jobs:
        for scope, level in job.get("permissions", {}).items():
            rights[scope] = "write" if "write" in {level, rights.get(scope)} else level
    return ", ".join(f"`{scope}: {rights[scope]}`" for scope in sorted(rights)) or "nothing"


def _described(spec: Mapping[str, Any]) -> str:
    required = " (required)" if spec.get("required") else ""
    return " ".join(str(spec.get("description", "")).split()) + required


def _code(default: object) -> str:
    text = str(default).lower() if isinstance(default, bool) else str(default)
    return f"`{text}`" if text else ""


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


# Errors


@dataclass(frozen=True, kw_only=True, order=True)
class Told:
    """What one place of the code says when it fails; `…` stands for what it fills in."""

    error: str
    says: str
    cure: str


def errors_page() -> str:
    """Return every text of an error that the code holds, by exit code, with its cure."""
    texts = sorted(set(told()))
    sections = [
        f"## {error.exit_code}: `{error.__name__}`\n\n{inspect.getdoc(error)}\n\n"
        + _texts(error, texts)
        for error in sorted(_errors().values(), key=lambda found: (found.exit_code, found.__name__))
        if any(text.error == error.__name__ for text in texts)
    ]
    return "\n".join([ERRORS, *sections, _of_the_start()])


def _texts(error: type[Exception], texts: list[Told]) -> str:
    rows = [(text.says, text.cure) for text in texts if text.error == error.__name__]
    if not any(cure for _, cure in rows):
        return _table(("It says",), [(says,) for says, _ in rows])
    return _table(("It says", "What to do"), rows)


def _errors() -> dict[str, Any]:
    shared = str(ROOT / "shared")
    if shared not in sys.path:
        sys.path.append(shared)
    from gpu_ci import errors  # noqa: PLC0415 -- on the path only now

    found = inspect.getmembers(errors, inspect.isclass)
    return {name: error for name, error in found if issubclass(error, errors.GpuCiError)}


def told() -> Iterator[Told]:
    """Yield what each place that makes an error says, where it says it in words of its own."""
    modules = {_dotted(path): ast.parse(path.read_text()) for path in _modules()}
    own = {name: dict(_constants(module)) for name, module in modules.items()}
    for name, module in modules.items():
        constants = own[name] | dict(_imported(module, own))
        for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
            if _called(call) in _errors():
                yield from _of(call, constants)
            if (name, _called(call)) == (OF_AWS, "Kind"):
                yield _of_aws(call, constants)


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT / "shared").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def _modules() -> list[Path]:
    package = ROOT / "shared" / "gpu_ci"
    return sorted(package.rglob("*.py"))


def _of(call: ast.Call, constants: Mapping[str, str]) -> Iterator[Told]:
    texts = [_text(argument, constants) for argument in call.args[:2]]
    if isinstance(first := next(iter(call.args), None), ast.List):  # BadInputs: a list of problems
        texts = []
        for each in first.elts:
            yield from _told(call, [_text(each, constants)])
    yield from _told(call, texts)


def _of_aws(call: ast.Call, constants: Mapping[str, str]) -> Told:
    """Return a line of the table of AWS's codes: Kind(code, error, cure)."""
    code, cure = (_text(call.args[at], constants) for at in (0, 2))
    plain = code.replace("\\.", ".").replace("\\w+", "…").replace("\\w*", "…").replace(".*", "…")
    said = plain.replace("|", ", ") or "anything else"
    return Told(error=ast.unparse(call.args[1]), says=f"AWS: {said}", cure=cure)


def _told(call: ast.Call, texts: list[str]) -> Iterator[Told]:
    says, cure = [*texts, "", ""][:2]
    if len(re.findall(r"[a-z]", says)) >= LEAST_LETTERS:
        yield Told(error=_called(call), says=says, cure=cure.strip(PLACEHOLDER))


def _called(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _constants(module: ast.Module) -> Iterator[tuple[str, str]]:
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                yield name, text
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Constant(value=str(text))):
                yield name, text
            case _:
                pass


def _imported(
    module: ast.Module, own: Mapping[str, Mapping[str, str]]
) -> Iterator[tuple[str, str]]:
    for node in module.body:
        if isinstance(node, ast.ImportFrom):
            known = own.get(node.module or "", {})
            yield from ((each.name, known[each.name]) for each in node.names if each.name in known)


def _text(node: ast.expr, constants: Mapping[str, str]) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value, constants) for value in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, constants) + _text(right, constants)
        case ast.FormattedValue(value=ast.Name(id=name)) | ast.Name(id=name):
            return constants.get(name, PLACEHOLDER)
        case _:
            return PLACEHOLDER


def _of_the_start() -> str:
    script = re.sub(r"\\\n", "", (ROOT / "shared" / "run").read_text())
    script = re.sub(r"\$\([^)]*\)", PLACEHOLDER, script)
    found = re.findall(r'\bfail (\d+) "([^"]*)"', script)
    rows = [
        (f"`{code}`", re.sub(r"\$\{?\w+\}?", PLACEHOLDER, text)) for code, text in sorted(found)
    ]
    return "## 70 to 75: before Python runs\n\n" + _table(("Code", "It says"), rows)
