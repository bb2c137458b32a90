"""The image: small, not root, from the lock; and, where an engine is at hand, built and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
BASE = "debian:bookworm-slim"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def instructions(name: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return re.findall(rf"^{name} +(.*)$", joined, re.MULTILINE)


def test_it_is_not_run_as_root() -> None:
    """By number, so that a scheduler which asks for that can tell; and it begins with gpu-ci."""
    assert instructions("USER") == ["10001:10001"]
    assert json.loads(instructions("ENTRYPOINT")[0]) == ["gpu-ci"]
    assert json.loads(instructions("CMD")[0]) == ["--help"]


def test_it_installs_what_the_lock_pins() -> None:
    """Never what is newest today: the lock has the versions and the checksums."""
    (sync,) = [line for line in instructions("RUN") if " sync " in line]
    assert {"--frozen", "--no-default-groups", "--no-install-workspace"} <= set(sync.split())
    assert re.findall(r"--extra (\S+)", sync) == ["app", "aws", "jarvislabs"]
    assert "pip install" not in DOCKERFILE
    assert instructions("ADD") == []


def test_both_stages_have_the_same_base() -> None:
    """The environment's Python is that of the base."""
    assert {line.split()[0] for line in instructions("FROM")} == {BASE}


def test_only_what_is_copied_is_sent_to_the_engine() -> None:
    """No checkout's .git, no environment, no key that lies about gets into a layer."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:].rstrip("/") for line in ignored if line.startswith("!")}
    copied = [line.split()[:-1] for line in instructions("COPY") if "--from" not in line]
    assert ignored[1] == "*"
    assert allowed == {name.rstrip("/") for names in copied for name in names}


# Built and run


@dataclass(frozen=True, kw_only=True)
class Image:
    """A built image: what stands before and after the variables on the command line of a run."""

    before: Sequence[str]
    after: Sequence[str]

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        given = [f"--env={name}={value}" for name, value in env.items()]
        command = [*self.before, *given, *self.after, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def succeed(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Image]:
    """The image, built by what is here for that."""
    if "slow" not in str(request.config.getoption("-m")):
        pytest.skip("it builds an image, which takes minutes: sh shared/run check -m slow")
    if has_docker():
        succeed("docker", "build", "--tag", "gpu-ci:test", ROOT)
        yield Image(before=["docker", "run", "--rm", "--network", "none"], after=["gpu-ci:test"])
    elif shutil.which("buildah") and shutil.which("debootstrap") and os.getuid() == 0:
        with built_by_buildah(tmp_path_factory.mktemp("image")) as built:
            yield built
    else:
        pytest.skip("neither a Docker engine, nor root with buildah and debootstrap, is here")


def has_docker() -> bool:
    if not shutil.which("docker"):
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@contextmanager
def built_by_buildah(folder: Path) -> Iterator[Image]:
    """Build without an engine and without a registry: the base comes from Debian itself."""
    at = ["buildah", f"--root={folder}/s", f"--runroot={folder}/r", "--storage-driver=overlay"]
    make_base(at, folder / "base")
    try:
        succeed(*at, "bud", "--isolation=chroot", "--pull-never", "--tag=gpu-ci:test", ROOT)
        container = succeed(*at, "from", "--pull-never", "localhost/gpu-ci:test")
        # It runs what it is told, not what the image says.
        told = json.loads(succeed(*at, "inspect", container))["OCIv1"]["config"]["Entrypoint"]
        yield Image(before=[*at, "run", "--isolation=chroot"], after=[container, "--", *told])
    finally:
        succeed(*at, "rm", "--all")
        succeed(*at, "rmi", "--all", "--force")


def make_base(at: Sequence[str], folder: Path) -> None:
    """Make Debian's base under the name that the Dockerfile has for it."""
    succeed("debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", folder)
    # A company's proxy signs with a certificate that only this machine knows.
    shutil.copy(CERTIFICATES, folder / CERTIFICATES.relative_to("/"))
    base = succeed(*at, "from", "scratch")
    succeed(*at, "add", "--quiet", base, folder, "/")
    succeed(*at, "commit", "--quiet", base, BASE)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_is_built_and_runs(image: Image) -> None:
    """The command is there with every provider, and what it cannot reach it says as elsewhere."""
    helped = image.run("--help")
    assert (helped.returncode, "watchdog" in helped.stdout) == (0, True), helped.stderr
    nothing = image.run("doctor", "--repository", "o/r")
    assert "provider is missing" in nothing.stderr
    github = ["--repository", "o/r", "--github-api-url", "http://127.0.0.1:9"]
    keys = {"GITHUB_TOKEN": "t", "JL_API_KEY": "k", "AWS_ACCESS_KEY_ID": "a"}
    for provider in ("ec2", "jarvislabs"):
        told = image.run("doctor", *github, "--provider", provider, "--machine", "L4", **keys)
        assert "GitHub at http://127.0.0.1:9 gave no answer" in told.stderr
