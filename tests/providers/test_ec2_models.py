"""What is left of AWS's descriptions of its services, and where it is kept."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from botocore.loaders import Loader

from gpu_ci.providers.ec2.service_models import FOLDER, OPERATIONS, service_models

if TYPE_CHECKING:
    from pathlib import Path

    from botocore.client import BaseClient


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of its own, that keeps nothing, and a user without models."""
    for name, value in {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_DATA_PATH", raising=False)
    monkeypatch.setattr(Loader, "CUSTOMER_DATA_PATH", str(tmp_path / "models"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


@pytest.fixture
def folder(home: Path) -> Path:
    """The folder that says that models are to be kept."""
    made = home / FOLDER
    made.mkdir()
    return made


def client(service: str = "ec2") -> BaseClient:
    session = botocore.session.get_session()
    session.register_component("data_loader", service_models(session))
    made: BaseClient = session.create_client(service, region_name="eu-central-1")
    return made


def whole(service: str) -> BaseClient:
    made: BaseClient = botocore.session.get_session().create_client(
        service,
        region_name="eu-central-1",
    )
    return made


@pytest.mark.parametrize("service", OPERATIONS)
def test_an_operation_is_described_in_full(service: str) -> None:
    """Every shape of what is asked and answered is there, as botocore has it."""
    mine, all_of_it = client(service).meta.service_model, whole(service).meta.service_model
    assert set(mine.operation_names) == OPERATIONS[service]
    for name in OPERATIONS[service]:
        one, other = mine.operation_model(name), all_of_it.operation_model(name)
        assert _told(one.input_shape) == _told(other.input_shape)
        assert _told(one.output_shape) == _told(other.output_shape)


def _told(shape: Any, above: tuple[str, ...] = ()) -> Any:
    """Return everything that a shape says of itself and of its parts."""
    if shape is None or shape.name in above:
        return shape and shape.name
    above = (*above, shape.name)
    parts = dict(getattr(shape, "members", {}))
    parts |= {
        part: getattr(shape, part) for part in ("member", "key", "value") if hasattr(shape, part)
    }
    rest = {name: _told(part, above) for name, part in parts.items()}
    return shape.name, shape.type_name, shape.serialization, shape.metadata, rest


@pytest.mark.parametrize("service", [*OPERATIONS, "sts", "sso", "sso-oidc"])
def test_each_service_is_where_it_was(service: str) -> None:
    """Also those that credentials come from, which keep all that they have."""
    mine, all_of_it = client(service), whole(service)
    assert mine.meta.endpoint_url == all_of_it.meta.endpoint_url
    assert _signature(mine) == _signature(all_of_it)
    if service not in OPERATIONS:
        assert mine.meta.method_to_api_mapping == all_of_it.meta.method_to_api_mapping


def _signature(made: BaseClient) -> str:
    return str(getattr(made.meta.config, "signature_version", ""))


def test_nothing_is_kept_where_no_folder_is(home: Path) -> None:
    """A user's own environment is not written in."""
    client()
    assert [*home.iterdir()] == []


def test_what_is_kept_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second client has the same methods, though botocore's own file is not opened."""
    first = client()
    opened: list[str] = []
    load = Loader.load_data_with_path

    def noted(self: Loader, name: str) -> Any:
        opened.append(name)
        return load(self, name)

    monkeypatch.setattr(Loader, "load_data_with_path", noted)
    second = client()
    assert second.meta.method_to_api_mapping == first.meta.method_to_api_mapping
    assert second.meta.endpoint_url == first.meta.endpoint_url
    assert {"endpoints"} | {name for name in opened if name.endswith("/service-2")} == {"endpoints"}
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
def test_a_damaged_file_is_made_again(folder: Path, content: bytes) -> None:
    """A file that was cut is no reason to fail, and is whole afterwards."""
    methods = client().meta.method_to_api_mapping
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for path in before:
        path.write_bytes(content)
    assert client().meta.method_to_api_mapping == methods
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("by", ["home", "environment"])
def test_a_users_own_models_are_used_and_not_kept(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """~/.aws/models and AWS_DATA_PATH come first, also when botocore's model is already kept."""
    client()
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    path = home / ("models" if by == "home" else "elsewhere")
    version = whole("ec2").meta.service_model.api_version
    own = Loader().load_service_model("ec2", "service-2")
    own["metadata"]["endpointPrefix"] = "ec2-of-our-own"
    (path / "ec2" / version).mkdir(parents=True)
    (path / "ec2" / version / "service-2.json").write_text(json.dumps(own))
    if by == "environment":
        monkeypatch.setenv("AWS_DATA_PATH", str(path))
    assert client().meta.service_model.endpoint_prefix == "ec2-of-our-own"
    assert {path: path.read_bytes() for path in folder.iterdir()} == kept
