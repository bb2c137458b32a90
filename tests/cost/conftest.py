"""The stand-in for GitHub with a ledger, as for the ledger's own tests."""

from tests.ledger.conftest import desk, served_github

__all__ = ["desk", "served_github"]
