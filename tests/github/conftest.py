"""The stand-in for GitHub with one labelled pull request, as for the gate's own tests."""

from tests.gate.conftest import hub, token

__all__ = ["hub", "token"]
