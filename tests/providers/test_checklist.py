"""The page's list of what a provider in this repository takes is the whole truth: one is added."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.docs.own_provider import MODULE, PAGE, TEST, passed, python

ROOT = Path(__file__).parents[2]
LIST = PAGE.read_text().split("\n## In this repository\n")[1]
ABOUT = re.compile(r"^ABOUT = About\(\n.*?^\)\n", re.MULTILINE | re.DOTALL)
# The tests that look at every provider, and at what is written from their declarations.
LOOKING = (
    "tests/providers/test_contract.py",
    "tests/providers/test_about.py",
    "tests/test_callable.py",
    "tests/test_arrows.py",
    "tests/profiles/test_page.py",
    "tests/profiles/test_schema.py",
    "tests/docs/test_written.py",
    "tests/inputs/test_inputs.py",
    "tests/init/test_init.py",
    "tests/runtime/test_workflow_commands.py",
    "tests/test_metadata.py",
    "tests/test_run.py",
)
CHOSEN = "acme or written or secret or schema or every_key or every_option or room or stands_twice or known"
OPTIONS = """\
## Provider options: `acme`

<!-- options of acme: begin -->
<!-- options of acme: end -->

## Provider options: `local`
"""


def changed(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, (file, old)
    file.write_text(text.replace(old, new, 1))


def add_the_provider(tree: Path) -> None:
    """The first place: the folder, with the page's class and its declaration apart from it."""
    folder = tree / "shared/gpu_ci/providers/acme"
    folder.mkdir()
    (about,) = ABOUT.findall(MODULE)
    path = 'class_path="gpu_ci.providers.acme.acme_provider:Acme",'
    about = about.replace('title="Acme",', f'title="Acme",\n    {path}')
    about = about.replace("Secret(words", 'Secret(taken_as="acme-api-key", words')
    (folder / "__init__.py").write_text(
        f'"""Machines of Acme."""\n\nfrom gpu_ci.providers.about import About, Secret\n\n{about}'
    )
    text = ABOUT.sub("", MODULE)
    text = text.replace(
        "import About, Secret\n", "import About\nfrom gpu_ci.providers.acme import ABOUT\n"
    )
    (folder / "acme_provider.py").write_text(text)


def add_to_the_list(tree: Path) -> None:
    file = tree / "shared/gpu_ci/providers/__init__.py"
    changed(file, "import ec2, ", "import acme, ec2, ")
    changed(file, "in (ec2.ABOUT, ", "in (acme.ABOUT, ec2.ABOUT, ")


def add_its_world(tree: Path) -> None:
    """The page's stand-in and world, as a module of the sandbox and a fixture."""
    module, _, test = TEST.partition("\n\n@dataclass\nclass AcmeWorld")
    module = module.replace("from gpu_ci_acme import Acme, AcmeOptions\n", "")
    (tree / "sandbox/gpu_ci_sandbox/fake_acme.py").write_text(module)
    world, _, _ = test.partition("\n\nclass TestAcme")
    conftest = tree / "tests/providers/conftest.py"
    conftest.write_text(
        conftest.read_text()
        + "\nfrom gpu_ci.providers.acme.acme_provider import Acme, AcmeOptions\n"
        + "from gpu_ci_sandbox.fake_acme import Faults, Server\n"
        + "from gpu_ci_sandbox.fake_acme import cloud as acme_cloud\n\n\n"
        + f"@dataclass\nclass AcmeWorld{world}\n\n"
        + "@pytest.fixture\ndef acme_world() -> Iterator[AcmeWorld]:\n"
        + "    machines: dict[str, dict[str, Any]] = {}\n"
        + "    faults = Faults(acme_cloud(machines))\n"
        + "    with Server(faults) as server:\n"
        + "        yield AcmeWorld(server.url, faults, machines)\n"
    )


def add_the_words(tree: Path) -> None:
    changed(tree / "action-start/README.md", "## Provider options: `local`\n", OPTIONS)


def write_what_follows(tree: Path) -> None:
    """The fifth place. Whether all was written, the tests say that look at it."""
    python(tree, [".ci/workflow_secrets.py"])
    python(tree, ["docs/reference.py", "write"])


# As the page numbers them. Acme has no SDK, so the last place, its extra, stays as it is.
PLACES = {
    1: add_the_provider,
    2: add_to_the_list,
    3: add_its_world,
    4: add_the_words,
    5: write_what_follows,
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the repository's files."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def looked_at(tree: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    return python(tree, ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", CHOSEN, *tests])


def test_the_list_has_six_places() -> None:
    """Each of which this file takes, but the last."""
    assert [int(number) for number in re.findall(r"^(\d)\. ", LIST, re.MULTILINE)] == [*range(1, 7)]
    assert list(PLACES) == [*range(1, 6)]


@pytest.mark.timeout(400)
def test_a_provider_is_added_in_the_places_of_the_list(tree: Path) -> None:
    """And every test that looks at all providers passes with it, and is none the fewer."""
    for add in PLACES.values():
        add(tree)
    assert passed(looked_at(tree, *LOOKING)) > 100
    asked = [
        "-m",
        "pytest",
        "-q",
        "--collect-only",
        "-k",
        "acme",
        "tests/providers/test_contract.py",
    ]
    collected = python(tree, asked).stdout
    assert collected.count("[acme]") == collected.count("::test_") > 20


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("left_out", "looking"),
    [
        (3, "tests/providers/test_contract.py"),
        (4, "tests/docs/test_written.py"),
        (5, "tests/test_callable.py"),
        (5, "tests/docs/test_written.py"),
    ],
)
def test_no_place_of_the_list_can_be_left_out(tree: Path, left_out: int, looking: str) -> None:
    """What is forgotten is a test that fails: a stop without its key leaves a machine billed."""
    for number, add in PLACES.items():
        if number != left_out:
            add(tree)
    done = looked_at(tree, looking)
    assert done.returncode == 1, done.stdout
    assert re.search(r"\d+ (failed|error)", done.stdout.splitlines()[-1])
