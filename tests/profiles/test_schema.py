"""The schema for editors is what the code reads, and the code of a start agrees with it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from gpu_ci.errors import BadInputs
from gpu_ci.profiles.read_profile import read

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "gpu-ci.schema.json"

GOOD = [
    "profiles: {}",
    "profiles: {a: {}}",
    "profiles: {a100: {provider: jarvislabs, machine: A100, machine-name: box, release: pause}}",
    "profiles: {a: {machine: [A100, 5], gpus: 2, disk-gb: '200', max-lifetime-minutes: 1.5}}",
    "profiles: {a: {max-lifetime-minutes: '1.5', labels: 'a, b', app-id: 12, budget: 5/run}}",
    "profiles: {a: {provider-options: {public-ip: true, subnets: [a], tags: a=b, num-gpus: 2}}}",
    "profiles: {a: {provider-options: '{}', aws-role: 'arn:x', aws-region: eu-west-1}}",
]
BAD = [
    "{}",
    "profiles: []",
    "profiles: {a: {}}\nmore: 1",
    "profiles: {'a b': {}}",
    "profiles: {a: x}",
    "profiles: {a: {machin: x}}",
    "profiles: {a: {github-token: x}}",
    "profiles: {a: {provider: tea}}",
    "profiles: {a: {market: cheap}}",
    "profiles: {a: {gpus: many}}",
    "profiles: {a: {gpus: -1}}",
    "profiles: {a: {idle-minutes: soon}}",
    "profiles: {a: {image: [x]}}",
    "profiles: {a: {region: true}}",
    "profiles: {a: {provider-options: {publik-ip: true}}}",
    "profiles: {a: {provider-options: {public-ip: 'yes'}}}",
]


def check(files: list[Path]) -> str:
    done = subprocess.run(
        ["check-jsonschema", "--schemafile", SCHEMA, "-o", "json", *files],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout


def files(folder: Path, texts: list[str]) -> list[Path]:
    made = [folder / f"{number}.yml" for number in range(len(texts))]
    for file, text in zip(made, texts, strict=True):
        file.write_text(text)
    return made


def test_good_files_pass(tmp_path: Path) -> None:
    """Numbers as such and in quotes, lists and lines, and options of every provider."""
    assert json.loads(check(files(tmp_path, GOOD)))["status"] == "ok"


@pytest.mark.parametrize("text", GOOD[1:])
def test_what_passes_is_read(text: str) -> None:
    """The code refuses nothing that the schema takes."""
    (name,) = [part for part in ("a100", "a") if f"{part}:" in text][:1]
    assert isinstance(read(text.encode(), name, "x"), dict)


def test_each_bad_file_is_refused(tmp_path: Path) -> None:
    """By its own fault, each of them."""
    told: dict[str, Any] = json.loads(check(files(tmp_path, BAD)))
    refused = {Path(error["filename"]).stem for error in told["errors"]}
    assert refused == {str(number) for number in range(len(BAD))}


@pytest.mark.parametrize("text", BAD[:7])
def test_what_has_no_place_in_the_file_is_refused_by_the_code_too(text: str) -> None:
    """An editor is a help, no guard."""
    with pytest.raises(BadInputs):
        read(text.encode(), "a", "x")


def test_the_schema_is_a_schema() -> None:
    """By the published one for schemas."""
    subprocess.run(
        ["check-jsonschema", "--check-metaschema", SCHEMA],
        check=True,
        capture_output=True,
        timeout=60,
    )
