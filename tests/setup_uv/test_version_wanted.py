"""Every way to say which uv is wanted, and who goes before whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from gpu_ci.errors import BadInputs
from gpu_ci.setup_uv.version_wanted import parse, read_wanted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.setup_uv.conftest import Machine

    from gpu_ci.setup_uv.version_wanted import Wanted

PINNED = "9.5.0"


def allowed(wanted: Wanted, *versions: str) -> list[bool]:
    return [wanted.allows(Version(version)) for version in versions]


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("0.9.3", "0.9.3"),
        (" 0.9.3 ", "0.9.3"),
        ("v0.9.3", "0.9.3"),
        ("==0.9.3", "0.9.3"),
        ("== 0.9.3", "0.9.3"),
        ("===0.9.3", "0.9.3"),
        ("1.0.0rc1", "1.0.0rc1"),
    ],
)
def test_an_exact_version_is_known_without_a_list(text: str, exact: str) -> None:
    """What names one version is exact, however it is written, and allows that one alone."""
    wanted = parse(text, "a test")
    assert (wanted.exact, wanted.latest) == (exact, False)
    assert allowed(wanted, exact, "0.9.4") == [True, False]


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("0.9", "0.9.30", "0.10.0"),
        ("v0.9", "0.9.30", "0.10.0"),
        ("0.9.x", "0.9.0", "0.8.9"),
        ("0.9.*", "0.9.0", "0.10.1"),
        ("0", "0.9.3", "1.0.0"),
        (">=0.9", "1.2.3", "0.8.9"),
        (">=0.8,<0.10", "0.9.99", "0.10.0"),
        (">=0.8 <0.10", "0.9.99", "0.10.0"),
        (">= 0.8, < 0.10", "0.9.99", "0.7.0"),
        ("!=0.9.2,~=0.9.1", "0.9.3", "0.9.2"),
        ("~0.9.3", "0.9.4", "0.9.2"),
        ("^0.9.3", "0.9.4", "0.10.0"),
        ("^1.2.3", "1.9.0", "2.0.0"),
        ("~1.2", "1.2.9", "1.3.0"),
    ],
)
def test_a_range_allows_what_it_says(text: str, good: str, bad: str) -> None:
    """Series, ranges of PEP 440 and npm's ranges are read, and none of them is an exact version."""
    wanted = parse(text, "a test")
    assert not wanted.exact
    assert not wanted.latest
    assert allowed(wanted, good, bad) == [True, False]


@pytest.mark.parametrize("text", ["latest", ">=0.9", "0.9", "<2"])
def test_a_pre_release_is_not_wanted_unless_it_is_asked_for(text: str) -> None:
    """No range and no `latest` takes a pre-release or a development version."""
    assert allowed(parse(text, "a test"), "0.9.9rc1", "0.9.9.dev3") == [False, False]
    assert allowed(parse(">=0.9.0rc1", "a test"), "0.9.9rc1") == [True]


@pytest.mark.parametrize("text", ["newest", "0.9.3.4.5.x", ">=", "0.9 || 0.10", "ref:main", "0..9"])
def test_what_is_no_version_is_said_with_who_wants_it(text: str) -> None:
    """The sentence names the source, the text and what can be written instead."""
    with pytest.raises(BadInputs, match=r"(?s)pyproject wants uv .*write an exact one") as caught:
        parse(text, "pyproject")
    assert text in str(caught.value)


FILES = {
    "uv.toml": 'required-version = "==0.9.1"\n',
    "pyproject.toml": '[tool.uv]\nrequired-version = ">=0.9.1,<0.9.2"\n',
    ".tool-versions": "# tools\npython 3.12.1\nuv 0.9.1 0.8.0 # and why\n",
    "requirements.txt": "uvicorn==0.3.0\n-r more.txt\nuv[x]==0.9.1 ; python_version>'3' # pinned\n",
    "requirements.in": "numpy\nUV==0.9.1\n",
    "hashed/requirements.txt": "uv==0.9.1 \\\n    --hash=sha256:00\n",
    "uv.lock": 'version = 1\n\n[[package]]\nname = "ours"\nsource = { virtual = "." }\n\n'
    '[[package]]\nname = "uv"\nversion = "0.9.1"\nsource = { registry = "https://a.example" }\n',
    "a/pyproject.toml": '[project]\nname = "x"\ndependencies = ["numpy>=2", "uv==0.9.1"]\n',
    "b/pyproject.toml": '[dependency-groups]\ntest = [{include-group = "b"}]\nb = ["uv==0.9.1"]\n',
}


@pytest.mark.parametrize("name", FILES)
def test_each_kind_of_version_file_is_read(machine: Machine, name: str) -> None:
    """`version-file` may be any file in which projects write the uv that they want."""
    file = machine.root / "workspace" / name
    file.parent.mkdir(parents=True)
    file.write_text(FILES[name])
    wanted = read_wanted(machine.inputs(version_file=name), PINNED, machine.host())
    assert wanted.source == str(file)
    assert allowed(wanted, "0.9.1", "0.9.2", "0.9.0") == [True, False, False]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("uv.toml", "nothing = 1\n"),
        ("uv.toml", "required-version = 9\n"),
        ("pyproject.toml", "[tool]\nuv = 3\n"),
        ("pyproject.toml", "this is no TOML"),
        ("pyproject.toml", '[project]\ndependencies = "uv==1.2.3"\n'),
        (".tool-versions", "python 3.12\n"),
        ("requirements.txt", "uv\nuvicorn==1.0.0\n"),
        ("uv.lock", '[[package]]\nname = "uv"\nsource = { editable = "." }\nversion-of = 1\n'),
        ("missing.toml", ""),
        ("requirements.txt", "\udcff\udcfe"),
    ],
)
def test_a_version_file_without_a_version_is_a_problem(
    machine: Machine, name: str, text: str
) -> None:
    """Whoever names a file is told when it says nothing, and which files can be read."""
    machine.inputs()
    if name != "missing.toml":
        (machine.root / "workspace" / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(BadInputs, match=r"names no version of uv.*uv\.lock"):
        read_wanted(machine.inputs(version_file=name), PINNED, machine.host())


def project(machine: Machine) -> Path:
    """Write every file that is looked at, each with another version."""
    workspace = machine.inputs().working_directory
    (workspace / "uv.toml").write_text('required-version = "==0.2.0"\n')
    (workspace / "pyproject.toml").write_text('[tool.uv]\nrequired-version = "==0.3.0"\n')
    (workspace / ".tool-versions").write_text("uv 0.4.0\n")
    return workspace


def test_the_input_goes_before_files_and_files_before_the_pin(machine: Machine) -> None:
    """Input, version-file, uv.toml, pyproject.toml, the pinned one: the first that speaks wins."""
    workspace = project(machine)
    both = {"version": "0.1.0", "version_file": ".tool-versions"}
    assert str(read_wanted(machine.inputs(**both), PINNED, machine.host())) == "0.1.0"
    assert (
        str(read_wanted(machine.inputs(version_file=".tool-versions"), PINNED, machine.host()))
        == "0.4.0"
    )
    for name, version in (("uv.toml", "0.2.0"), ("pyproject.toml", "0.3.0")):
        wanted = read_wanted(machine.inputs(), PINNED, machine.host())
        assert (str(wanted), wanted.source) == (version, str(workspace / name))
        (workspace / name).unlink()
    assert str(read_wanted(machine.inputs(), PINNED, machine.host())) == PINNED


def test_a_project_above_is_asked_as_uv_itself_does(machine: Machine) -> None:
    """In a member of a workspace the root's required-version counts, and a nearer one before it."""
    member = project(machine) / "packages" / "one"
    member.mkdir(parents=True)
    inputs = machine.inputs(working_directory="packages/one")
    (member / "pyproject.toml").write_text(
        '[project]\nname = "one"\ndependencies = ["uv==8.8.8"]\n'
    )
    assert str(read_wanted(inputs, PINNED, machine.host())) == "0.2.0"
    (member / "pyproject.toml").write_text('[tool.uv]\nrequired-version = "==0.5.0"\n')
    assert str(read_wanted(inputs, PINNED, machine.host())) == "0.5.0"


def test_the_nearest_configuration_ends_the_search(machine: Machine) -> None:
    """A configuration that requires nothing hides those beside it and above it, as it does for uv."""
    member = project(machine) / "one"
    member.mkdir()
    inputs = machine.inputs(working_directory="one")
    (member / "pyproject.toml").write_text("[tool.uv]\n")
    assert str(read_wanted(inputs, PINNED, machine.host())) == PINNED
    (member / "pyproject.toml").write_text('[tool.uv]\nrequired-version = "==0.5.0"\n')
    (member / "uv.toml").write_text("native-tls = true\n")
    assert str(read_wanted(inputs, PINNED, machine.host())) == PINNED


def configured(file: Path, version: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'required-version = "=={version}"\n')
    return file


def test_the_users_and_the_systems_configuration_come_last(machine: Machine) -> None:
    """A project that says nothing leaves it to the user, and then to the first file of the system."""
    machine.inputs()
    files = {
        "0.6.0": machine.root / "config" / "uv" / "uv.toml",
        "0.7.0": machine.root / "etc" / "xdg" / "uv" / "uv.toml",
        "0.8.0": machine.root / "etc" / "uv" / "uv.toml",
    }
    for version, file in files.items():
        configured(file, version)
    configured(machine.root / ".config" / "uv" / "uv.toml", "0.6.1")
    assert str(read_wanted(machine.inputs(), PINNED, machine.host())) == "0.6.1"
    machine.job["XDG_CONFIG_HOME"] = str(machine.root / "config")
    for version, file in files.items():
        assert str(read_wanted(machine.inputs(), PINNED, machine.host())) == version
        file.unlink()
    assert str(read_wanted(machine.inputs(), PINNED, machine.host())) == PINNED
    project(machine)
    configured(files["0.6.0"], "0.6.0")
    assert str(read_wanted(machine.inputs(), PINNED, machine.host())) == "0.2.0"


def test_the_systems_folders_are_those_that_the_job_names(machine: Machine) -> None:
    """XDG_CONFIG_DIRS is a list, and one file of it counts, though it requires nothing."""
    file = configured(machine.root / "b" / "uv" / "uv.toml", "0.7.1")
    configured(machine.root / "etc" / "uv" / "uv.toml", "0.8.0")
    machine.job["XDG_CONFIG_DIRS"] = f"{machine.root}/a::{machine.root}/b"
    assert str(read_wanted(machine.inputs(), PINNED, machine.host())) == "0.7.1"
    file.write_text("native-tls = true\n")
    assert str(read_wanted(machine.inputs(), PINNED, machine.host())) == PINNED


def test_the_job_may_name_the_configuration_or_want_none(machine: Machine) -> None:
    """UV_CONFIG_FILE goes in place of every other, and UV_NO_CONFIG says that none is looked at."""
    workspace = project(machine)
    for no, version in (("1", PINNED), ("TRUE", PINNED), ("false", "0.2.0"), ("", "0.2.0")):
        machine.job["UV_NO_CONFIG"] = no
        assert str(read_wanted(machine.inputs(), PINNED, machine.host())) == version
    machine.job["UV_CONFIG_FILE"] = "ci/uv.toml"
    assert str(read_wanted(machine.inputs(), PINNED, machine.host())) == PINNED
    configured(workspace / "ci" / "uv.toml", "0.5.5")
    assert str(read_wanted(machine.inputs(), PINNED, machine.host())) == "0.5.5"


def test_latest_known_is_the_pinned_one(machine: Machine) -> None:
    """The newest with a checksum of ours needs no list of versions."""
    assert (
        read_wanted(machine.inputs(version="latest-known"), PINNED, machine.host()).exact == PINNED
    )


@pytest.mark.parametrize("version", ["latest", "0.9", ">=0.9"])
def test_a_checksum_needs_an_exact_version(machine: Machine, version: str) -> None:
    """A checksum is of one file, so that what may change from day to day cannot have one."""
    with pytest.raises(BadInputs, match="checksum is for one exact version"):
        read_wanted(machine.inputs(version=version, checksum="0" * 64), PINNED, machine.host())
