"""The stand-in for GitHub: with one labelled pull request, as for the gate's own tests, and with a
ledger, as for the ledger's."""

from tests.gate.conftest import hub, token
from tests.ledger.conftest import desk, served_github

__all__ = ["desk", "hub", "served_github", "token"]
