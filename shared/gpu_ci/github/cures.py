"""What to do when GitHub refuses: a paragraph by status, kind of token and scope. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT_CURE: Final = (
    "The token has used up what GitHub allows it for now. Wait, or use a GitHub App's or another "
    "account's token, which has a limit of its own."
)
ODD_CURE: Final = (
    "Look at https://www.githubstatus.com, and check that github-api-url is the root of a REST API."
)
NETWORK_CURE: Final = (
    "Look at https://www.githubstatus.com, and at the network and proxy of this machine."
)
TOKEN_TEXT_CURE: Final = "Copy it again, without spaces, line ends or quotes."  # noqa: S105 -- says how
KEY_CURE: Final = "Pass the whole file as you got it from GitHub, with its BEGIN and END lines."
RUN_CURE: Final = "Give the job `permissions: actions: read`, or `write` if it has to cancel runs."
HISTORY_CURE: Final = (
    "Give the job `permissions: actions: read` and `checks: read`, or use a token that may read "
    "actions and checks."
)
LABEL_CURE: Final = (
    "Give the job `permissions: pull-requests: write`. The token of a run that Dependabot started "
    "is read-only unless the workflow says otherwise."
)
CONTENTS_CURE: Final = (
    "In a private repository the job needs `permissions: contents: read` to read the profile; a job "
    "with a `permissions` block has no right that is not named there."
)
NO_CHECKOUT_CURE: Final = (
    "Give the job `permissions: contents: read`, or check out before this step."
)
SSO_CURE: Final = (
    "The organisation asks for single sign-on: open the token under Settings, Developer settings, "
    "Personal access tokens, and authorise it for the organisation (Configure SSO)."
)
# What is forbidden to every token, by words of GitHub's message.
POLICY_CURES: Final = {
    "saml": SSO_CURE,
    "ip allow list": "Only listed addresses may ask. Run this job on a runner that has one, or let "
    "an owner list its address under the organisation's Settings, Authentication security.",
    "archived": "Unarchive the repository: no job runs in an archived one.",
    "forbids access via": "The organisation does not take this kind of token. Use a GitHub App "
    "(app-id, app-private-key), or a token of the kind and lifetime that it allows.",
    "suspended": "Let an owner unsuspend the GitHub App's installation under Settings, GitHub Apps.",
}
# What a token needs to administer runners, by how it begins, for a repository or an organisation.
# https://docs.github.com/en/rest/actions/self-hosted-runners
REPOSITORY_RIGHTS: Final = {
    "ghs_": "The workflow's own GITHUB_TOKEN (ghs_) can never administer runners. A GitHub App's "
    "token needs Administration: write, and the App must be installed on this repository.",
    "github_pat_": "A fine-grained token (github_pat_) needs Administration: write, with this "
    "repository selected, and the organisation's approval where it asks for one.",
    "ghp_": "A classic token (ghp_) needs the scope `repo`, and its owner must be an administrator "
    "of the repository.",
}
ORGANIZATION_RIGHTS: Final = {
    "ghs_": "The workflow's own GITHUB_TOKEN (ghs_) can never administer runners. A GitHub App's "
    "token needs the organisation permission Self-hosted runners: write.",
    "github_pat_": "A fine-grained token (github_pat_) needs the organisation permission "
    "Self-hosted runners: write.",
    "ghp_": "A classic token (ghp_) needs the scope `admin:org`.",
}
NEW_TOKENS: Final = {
    "ghs_": "A ghs_ token ends with its job or after an hour: with app-id and app-private-key each "
    "step makes its own.",
    "github_pat_": "Make a new one under Settings, Developer settings, Fine-grained tokens, and "
    "store it in the secret that github-token comes from.",
    "ghp_": "Make a new one under Settings, Developer settings, Tokens (classic), and store it in "
    "the secret that github-token comes from.",
}


def policy_cure(status: int, headers: Mapping[str, str], message: str) -> str:
    """Return what to do about a rule that forbids this to every token, "" if there is none.

    https://docs.github.com/en/rest/authentication/authenticating-to-the-rest-api (x-github-sso)
    """
    if status != HTTPStatus.FORBIDDEN:
        return ""
    if headers.get("x-github-sso", "").startswith("required"):
        return SSO_CURE
    return next((cure for words, cure in POLICY_CURES.items() if words in message.lower()), "")


def token_cures(token: str, scope: str) -> dict[int, str]:
    """Return what to do, by status, when a token may not administer the runners of this scope."""
    rights = _for_kind(token, _rights(scope))
    ended = "The token is wrong, revoked or expired. " + _for_kind(token, NEW_TOKENS)
    return {401: ended, 403: rights, 404: rights}


def app_cures(scope: str) -> dict[int, str]:
    """Return what to do, by status, when an App gets no token for the runners of this scope."""
    right = _rights(scope)["ghs_"]
    return {
        401: "app-private-key is not a key of the App that app-id names, or the clock of this "
        "machine is wrong.",
        403: right,
        404: f"Is app-id right, and is the App installed on {scope.partition('/')[2]}?",
        422: f"The App's installation lacks the right or the repository. {right}",
    }


def _rights(scope: str) -> Mapping[str, str]:
    return ORGANIZATION_RIGHTS if scope.startswith("orgs/") else REPOSITORY_RIGHTS


def _for_kind(token: str, cures: Mapping[str, str]) -> str:
    known = [cure for prefix, cure in cures.items() if token.startswith(prefix)]
    return " ".join(known or cures.values())
