"""The writer of `docs/`, loaded by its path as MkDocs does it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

PATH = Path(__file__).parents[1] / "docs" / "reference.py"


def loaded() -> ModuleType:
    """Return the module, a new one each time."""
    spec = importlib.util.spec_from_file_location("reference", PATH)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
