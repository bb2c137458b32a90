"""The site: it builds, loads nothing from elsewhere, and its made pages say what the code says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from gpu_ci import errors

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("action-*/README.md"), *ROOT.glob("docs/**/*.md")])
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)")


class Loaded(HTMLParser):
    """Collects what a browser fetches for a page by itself, and the classes of its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.classes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.classes.update(known.get("class", "").split())
        if "src" in known:
            self.addresses.append(known["src"])
        if tag == "link" and known.get("rel") not in {"canonical", "next", "prev"}:
            self.addresses.append(known["href"])


def loaded_by(page: Path) -> Loaded:
    parser = Loaded()
    parser.feed(page.read_text())
    return parser


def test_the_site_is_built_whole_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """A link, an anchor or a page that leads nowhere fails the build; each action, each callable
    workflow and each way to fail has its place; it works in a closed network."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expect_nothing_from_elsewhere(tmp_path)
    expect_every_page(tmp_path)


def expect_nothing_from_elsewhere(site: Path) -> None:
    """No font, script or picture of another server."""
    pages = [loaded_by(page) for page in site.rglob("*.html")]
    addresses = {address for page in pages for address in page.addresses}
    assert len(pages) > 20
    assert any(address.endswith(".css") for address in addresses)
    assert [each for each in addresses if re.match(r"(?:[a-z]+:)?//", each)] == []
    # The theme would fetch what draws it.
    assert [page for page in pages if "mermaid" in page.classes] == []
    sheets = "".join(sheet.read_text() for sheet in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheets) == []


def test_the_drawing_shows_what_the_readme_draws() -> None:
    """GitHub draws it from the text, the site shows a file: the same jobs and words are in both."""
    (text,) = re.findall(r"```mermaid\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    drawing = (ROOT / "docs" / "flow.svg").read_text()
    shown = " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", drawing))
    boxes = re.findall(r"\[(.*?)\]", text) + re.findall(
        r"(?:-->|-- go -->) (\w+)$", text, re.MULTILINE
    )
    assert {"gate", "start", "watch", "stop", "result"} <= set(boxes)
    assert [box for box in boxes if box not in shown] == []


def expect_every_page(site: Path) -> None:
    text = (site / "reference" / "errors" / "index.html").read_text()
    assert "InsufficientFreeAddressesInSubnet" in text
    assert errors.NoCapacity.__name__ in text
    workflows = (site / "reference" / "workflows" / "index.html").read_text()
    for path in ROOT.glob(".github/workflows/*.yml"):
        loaded = yaml.safe_load(path.read_text())
        called = loaded[True].get("workflow_call") if isinstance(loaded[True], dict) else None
        for name in (called or {}).get("inputs", {}):
            assert f"<code>{name}</code>" in workflows
    for action in ROOT.glob("action-*/action.yml"):
        page = (site / "reference" / action.parent.name / "index.html").read_text()
        for name in yaml.safe_load(action.read_text())["inputs"]:
            assert f"<code>{name}</code>" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_to_files(page: Path) -> None:
    """Whoever reads the repository rather than the site gets there too."""
    targets = LINK.findall(CODE.sub("", page.read_text()))
    assert [each for each in targets if not (page.parent / each).resolve().exists()] == []


def test_every_guarantee_names_a_test_that_is_there() -> None:
    """A guarantee whose test has gone is none."""
    named = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "docs" / "guarantees.md").read_text())
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []
