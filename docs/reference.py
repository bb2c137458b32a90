"""Writes what the repository would say twice, and makes the pages of the site that say what the code says.

`python docs/reference.py write` fills the tables of the READMEs and of `docs/profiles.md`, between
their markers, and `gpu-ci.schema.json`; `check` names what it would change. MkDocs loads this file
as a hook: it adds the pages that no file holds, and lets links to files lead to pages.
"""
# ruff: noqa: INP001 -- MkDocs loads it by its path

from __future__ import annotations

import ast
import inspect
import json
import posixpath
import re
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from mkdocs.structure.files import File

ROOT: Final = Path(__file__).resolve().parents[1]
if str(ROOT / "shared") not in sys.path:
    sys.path.append(str(ROOT / "shared"))
# ruff: noqa: E402 -- the library is on the path only now
from gpu_ci import errors
from gpu_ci.profiles.keys import KEYS, OF_A_STOP, Key
from gpu_ci.profiles.schema import OWN_DESCRIPTIONS, meaning, schema
from gpu_ci.providers import PROVIDERS, provider_class

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

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
ACTIONS: Final = tuple(path.parent.name for path in sorted(ROOT.glob("action-*/action.yml")))
# How a description ends when the code, a profile or somebody else fills in what is left out; in
# backticks the value itself.
DEFAULT: Final = re.compile(r"(.*?) ?\bDefault: (.+)\.")
BLOCK: Final = re.compile(r"(<!-- ([\w ]+): begin -->)(.*?)(<!-- \2: end -->)", re.DOTALL)
HOLDS: Final = {
    "text": "a value",
    "whole": "a whole number",
    "minutes": "a number, decimals allowed",
    "several": "a value, or a list",
    "options": "a mapping, or JSON",
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


# What is written into the repository


class NoPlace(ValueError):
    """A file lacks the markers of a block, has them twice, or has some that nothing fills."""


def written(texts: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return each file that is written, in part or whole, by its path: as it has to be.

    `texts` stand for files of the repository. Raises NoPlace for a file with other markers than
    those of its blocks.
    """
    known = texts or {}
    filled = {
        path: _filled(path, known.get(path) or (ROOT / path).read_text(), blocks)
        for path, blocks in _blocks().items()
    }
    made = json.dumps(schema(_descriptions()), indent=2, ensure_ascii=False) + "\n"
    return {**filled, "gpu-ci.schema.json": made}


def _filled(path: str, text: str, blocks: Mapping[str, str]) -> str:
    found = [name for _, name, *_ in BLOCK.findall(text)]
    if sorted(found) != sorted(blocks):
        raise NoPlace(f"{path} has markers for {found}; it must have them for {list(blocks)}.")
    return BLOCK.sub(lambda block: f"{block[1]}{blocks[block[2]]}{block[4]}", text)


def _blocks() -> dict[str, dict[str, str]]:
    """Return what stands between the markers of each file, by the markers' name."""
    found = {f"{action}/README.md": _of_action(action) for action in ACTIONS}
    found["action-start/README.md"] |= {
        f"options of {provider}": _own_lines(_options(provider)) for provider in PROVIDERS
    }
    found["action-watchdog/README.md"]["workflow"] = _own_lines(_of_the_watchdogs_workflow())
    found["docs/profiles.md"] = {
        "keys of a stop": ", ".join(f"`{name}`" for name in OF_A_STOP),
        "keys": _own_lines(_keys()),
    }
    return found


def _own_lines(table: str) -> str:
    """Return it as Markdown wants a table: nothing but blank lines beside it."""
    return f"\n\n{table}\n"


def _of_action(action: str) -> dict[str, str]:
    told = _metadata(action)
    inputs = [_input(name, spec) for name, spec in told["inputs"].items()]
    outputs = [(f"`{name}`", _described(spec)) for name, spec in told["outputs"].items()]
    return {
        "inputs": _own_lines(_table(("Input", "Meaning", "Default"), inputs)),
        "outputs": _own_lines(_table(("Output", "Meaning"), outputs)),
    }


def _metadata(action: str) -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = yaml.safe_load((ROOT / action / "action.yml").read_text())
    return loaded


def _options(provider: str) -> str:
    options = provider_class(provider).Options
    rows = [
        (
            f"`{field.name.replace('_', '-')}`",
            meaning(options, field.name),
            _code(str(field.default or "").lower()),
        )
        for field in fields(options)
    ]
    return _table(("Option", "Meaning", "Default"), rows)


def _of_the_watchdogs_workflow() -> str:
    """Return the inputs that the action has not, then the secrets."""
    told = _triggers(ROOT / ".github" / "workflows" / "watchdog.yml")["workflow_call"]
    known = _metadata("action-watchdog")["inputs"]
    inputs = [_input(name, spec) for name, spec in told["inputs"].items() if name not in known]
    secrets = [
        (f"`{name}` (secret)", _described(spec), "") for name, spec in told["secrets"].items()
    ]
    return _table(("Input or secret", "Meaning", "Default"), [*inputs, *secrets])


def _keys() -> str:
    told = OWN_DESCRIPTIONS | _descriptions()
    rows = [(f"`{name}`", _holds(key), told[name]) for name, key in KEYS.items()]
    return _table(("Key", "Holds", "Meaning"), rows)


def _holds(key: Key) -> str:
    return HOLDS.get(key.kind) or ", ".join(f"`{choice}`" for choice in key.choices)


def _descriptions() -> dict[str, str]:
    """Return what action.yml says of each input; of stop's only of what start has not."""
    inputs = {**_metadata("action-stop")["inputs"], **_metadata("action-start")["inputs"]}
    return {name: _described(spec) for name, spec in inputs.items()}


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
    inputs = [_input(name, spec) for name, spec in told.get("inputs", {}).items()]
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


def _input(name: str, spec: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the cells of an input: its name, its meaning, and what it is when it is left out."""
    text, default = _described(spec), _code(spec.get("default", ""))
    if found := DEFAULT.fullmatch(text):
        text, default = found[1], default or found[2]
    return f"`{name}`", text, default


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
    return "## 70 to 76: before Python runs\n\n" + _table(("Code", "It says"), rows)


def main(arguments: Sequence[str]) -> int:
    """Write what has to be written, or say what that would change; return the exit code."""
    if list(arguments) not in (["write"], ["check"]):
        sys.stderr.write("usage: python docs/reference.py write|check\n")
        return 2
    stale = {path: text for path, text in written().items() if (ROOT / path).read_text() != text}
    for path, text in stale.items():
        print(path)
        if "write" in arguments:
            (ROOT / path).write_text(text)
    return 1 if stale and "check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
