"""Reading the inputs: lists, numbers, choices, and every problem at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes import FakeKeeper, fakes_known, kept_env, start_env, tags

from gpu_ci.errors import BadInputs
from gpu_ci.github.client import GitHub
from gpu_ci.inputs.reader import Reader, input_names, variable
from gpu_ci.inputs.start_inputs import StartInputs
from gpu_ci.inputs.stop_inputs import StopInputs
from gpu_ci.inputs.watchdog_inputs import WatchdogInputs
from gpu_ci.model.machine import Machine, to_handle
from gpu_ci.providers import PROVIDERS, provider_class
from gpu_ci.start import start
from gpu_ci.stop import stop
from gpu_ci.watchdog import watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

exact = settings(derandomize=True, deadline=None, database=None)
Inputs = type[StartInputs | StopInputs | WatchdogInputs]
TOKEN = "ghp_averysecrettokenindeed"
PEM = "-----BEGIN KEY-----\nc2VjcmV0\n-----END KEY-----"
SECRETS = [TOKEN, PEM, *PEM.splitlines()[1:2]]
OF_PROVIDERS = [secret for about in PROVIDERS.values() for secret in about.secrets]

# Values that come close to being right, besides any text at all.
NEARLY: dict[str, list[str]] = {
    "provider": [*PROVIDERS, "", "Local"],
    "github-token": [TOKEN, "", " "],
    "github-api-url": ["https://ghe.example/api/v3/", "ftp://x", "https://"],
    "machine": ["a, b\nc", "a b", "[]"],
    "handle": ["a, b\nc", to_handle([Machine(provider="local", id="m", tags=tags())]), "[]", "{}"],
    "provider-options": ["{}", "[]", "{", '{"user": "me"}', '{"user": 1}', "[" * 5000, "9" * 5000],
    "market": ["spot", "on-demand", "Spot"],
    "registration": ["jit", "token", "-"],
    "release": ["auto", "pause", "-"],
    "dry-run": ["true", "FALSE", "yes"],
    "organization": ["octo", "octo cat"],
    "machine-name": ["box", "gpu-ci-7-1-x-abcdef0123-0", "a b", "b" * 41, "box, crate"],
    "scope": ["run", "repository", "Run"],
    "providers": ["", "local", "ec2, local", "ec2\ngcp"],
    "labels": ["a100", "gpu-*, [x", "a b"],
}
NUMBERS = ["0", "1", "1.5", "-1", "1e3", "nan", "inf", "\u0663", "\u00b2", "9" * 30, "12 "]


def one_of(name: str) -> st.SearchStrategy[str]:
    return st.sampled_from(NEARLY.get(name, NUMBERS)) | st.text(max_size=120)


def environments(inputs: Inputs) -> st.SearchStrategy[dict[str, str]]:
    """Return whole environments, with anything at all in any input."""
    given_inputs = {variable(name): one_of(name) for name in input_names(inputs)}
    repository = st.sampled_from(["octo/widgets", "", "octo", "a/b/c"])
    others = dict.fromkeys(OF_PROVIDERS, st.just("k")) | {"GITHUB_REPOSITORY": repository}
    others |= {"GITHUB_RUN_ID": st.just("7"), "GPU_CI_RUN_TOKEN": st.just(TOKEN)}
    return st.fixed_dictionaries({}, optional=given_inputs | others)


@exact
@given(environments(StartInputs))
def test_a_start_reads_anything_or_says_what_is_bad(env: dict[str, str]) -> None:
    """No text in any input leads to another error than BadInputs, with one line a problem."""
    check_outcome(StartInputs, env)


@exact
@given(environments(StopInputs))
def test_a_stop_reads_anything_or_says_what_is_bad(env: dict[str, str]) -> None:
    """The same promise for the inputs of a stop."""
    check_outcome(StopInputs, env)


@exact
@given(environments(WatchdogInputs))
def test_a_watchdog_reads_anything_or_says_what_is_bad(env: dict[str, str]) -> None:
    """The same promise for the inputs of a watchdog."""
    check_outcome(WatchdogInputs, env)


def check_outcome(inputs: Inputs, env: dict[str, str]) -> None:
    try:
        read = inputs.read(env)
    except BadInputs as bad:
        problems = bad.problems
    else:
        problems = ()
        assert providers_of(read) <= set(PROVIDERS)
    assert [problem for problem in problems if problem.splitlines() != [problem]] == []


def providers_of(inputs: StartInputs | StopInputs | WatchdogInputs) -> set[str]:
    if isinstance(inputs, WatchdogInputs):
        assert set(inputs.providers) == set(inputs.provider_options)
        return set(inputs.providers)
    return {inputs.provider}


BAD = {
    "provider": "gcp",
    "github-token": "",
    "github-api-url": "api.github.com",
    "organization": "octo cat",
    "count": "0",
    "labels": "a b",
    "registration": "pat",
    "market": "cheap",
    "disk-gb": "big",
    "gpus": "-1",
    "online-timeout-minutes": "0",
    "max-lifetime-minutes": "nan",
    "idle-minutes": "99999",
    "key": "k" * 101,
    "provider-options": "[]",
    "dry-run": "perhaps",
}


def test_every_problem_is_reported_at_once() -> None:
    """A user who got all inputs wrong corrects them in one go."""
    env = {variable(name): value for name, value in BAD.items()}
    problems = problems_of(StartInputs, {**env, "GITHUB_REPOSITORY": "octo/widgets"})
    assert len(problems) == len(BAD)
    unnamed = [name for name in BAD if not any(p.startswith(name) for p in problems)]
    assert unnamed == []


def problems_of(inputs: Inputs, env: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(BadInputs) as caught:
        inputs.read(env)
    return caught.value.problems


@pytest.mark.parametrize("inputs", [StartInputs, StopInputs, WatchdogInputs])
def test_no_secret_is_in_a_message(inputs: Inputs) -> None:
    """The values of the secret inputs are in no problem, whatever else is wrong."""
    env = {variable(name): value for name, value in BAD.items()}
    env |= {"INPUT_GITHUB_TOKEN": TOKEN, "INPUT_APP_PRIVATE_KEY": PEM, "GPU_CI_RUN_TOKEN": TOKEN}
    text = "\n".join(problems_of(inputs, {**env, "INPUT_HANDLE": "{}", "INPUT_RELEASE": "-"}))
    assert [secret for secret in SECRETS if secret in text] == []


def test_without_a_token_the_cure_is_told() -> None:
    """A fork's pull request has no secrets: the message says so, and what a token needs."""
    problems = problems_of(StartInputs, start_env(github_token=""))
    assert len(problems) == 1
    for word in ("forks", "`repo`", "Administration: write", "app-id"):
        assert word in problems[0]


@pytest.mark.parametrize(
    ("given_inputs", "part"),
    [
        ({"app_id": "1"}, "belong together"),
        ({"app_id": "1", "github_token": ""}, "app-private-key is not set"),
        ({"app_private_key": PEM}, "belong together"),
        ({"runner_group": "gpus"}, "needs organization"),
        ({"machine_name": "box"}, "Remove machine-name"),
        ({"online_timeout_minutes": "30", "max_lifetime_minutes": "20"}, "longer than"),
        ({"provider_options": '{"usr": "me"}'}, "Did you mean user?"),
        ({"provider_options": '{"user": 1}'}, "must be a string"),
        ({"provider_options": '{"a\\n\\nb": 1}'}, "is not known"),
    ],
)
def test_inputs_that_do_not_fit_together(given_inputs: dict[str, str], part: str) -> None:
    """What is wrong only in combination is one problem too, with the cure."""
    problems = problems_of(StartInputs, start_env(**given_inputs))
    assert len(problems) == 1
    assert part in problems[0]
    assert problems[0].splitlines() == [problems[0]]


def test_a_start_needs_a_repository() -> None:
    """In a terminal nothing sets it: the flag that does is named."""
    problems = problems_of(StartInputs, start_env() | {"GITHUB_REPOSITORY": "widgets"})
    assert ["--repository" in problem for problem in problems] == [True]


def test_inputs_arrive_in_the_units_of_the_library() -> None:
    """Minutes may be decimal and become seconds; lists are cut at commas and lines, doubles go."""
    inputs = StartInputs.read(
        start_env(
            online_timeout_minutes="0.5",
            machine=" b, a\n\n a ,c\r\n",
            labels="gpu,linux.x64",
            disk_gb=" 100 ",
            setup_script="  echo hi\n",
            dry_run="TRUE",
            github_api_url="https://ghe.example/api/v3/",
        )
    )
    assert inputs.online_timeout == 30
    assert inputs.machine == ("b", "a", "c")
    assert inputs.labels == ("gpu", "linux.x64")
    assert inputs.disk_gb == 100
    assert inputs.setup_script == "  echo hi\n"
    assert inputs.dry_run
    assert inputs.github.api_url == "https://ghe.example/api/v3"


@pytest.mark.parametrize("text", ["0.1", "1", "10080", "1e2", " 5 "])
def test_minutes_are_decimal_numbers(text: str) -> None:
    """Anything above nothing, up to a week."""
    reader = Reader({"INPUT_IDLE_MINUTES": text})
    assert reader.minutes("idle-minutes", 10) == float(text) * 60
    reader.finish()


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "10081", "ten", "1,5"])
def test_other_minutes_are_a_problem(text: str) -> None:
    """A time that would never end, or end at once, is not taken."""
    reader = Reader({"INPUT_IDLE_MINUTES": text})
    reader.minutes("idle-minutes", 10)
    with pytest.raises(BadInputs, match=r"idle-minutes.*minutes"):
        reader.finish()


def test_a_stop_reads_the_handle_that_start_gave_out() -> None:
    """The machines come back whole."""
    machines = [Machine(provider="local", id=str(n), tags=tags()) for n in range(2)]
    inputs = StopInputs.read(start_env(handle=to_handle(machines)))
    assert inputs.handle == tuple(machines)


def test_a_handle_of_another_provider_is_a_problem() -> None:
    """A machine is never looked for in the wrong cloud, where it would seem to be gone."""
    handle = to_handle([Machine(provider="ec2", id="i-1", tags=tags())])
    assert "was started by provider 'ec2'" in problems_of(StopInputs, start_env(handle=handle))[0]


def test_a_provider_that_cannot_pause_says_so() -> None:
    """`release: pause` is refused before anything is asked of the cloud."""
    assert "cannot pause" in problems_of(StopInputs, start_env(release="pause"))[0]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_options_may_be_written_with_hyphens_or_underscores(provider: str) -> None:
    """Every option of every provider is read in both spellings."""
    options = provider_class(provider).Options()
    written: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(options).items()
    }
    for given_options in (written, {n.replace("_", "-"): v for n, v in written.items()}):
        env = start_env(provider=provider, provider_options=json.dumps(given_options))
        env |= dict.fromkeys(required(provider), "k")
        assert StartInputs.read(env).provider_options == options


def test_a_stop_in_a_terminal_is_told_what_to_stop() -> None:
    """Without a run there is nothing to look for: it says so, instead of finding nothing."""
    env = {"INPUT_PROVIDER": "local", "INPUT_GITHUB_TOKEN": "t"}
    with pytest.raises(BadInputs) as caught:
        StopInputs.read(env)
    assert [problem.split(" ")[0] for problem in caught.value.problems] == [
        "GITHUB_REPOSITORY",
        "key",
    ]


@pytest.fixture
def keeping() -> Iterator[None]:
    """A provider that keeps machines is known."""
    with fakes_known():
        yield


@pytest.mark.usefixtures("keeping")
@pytest.mark.parametrize("name", ["box", "B", "7", "gpu_box-2", "gpu-ci-box", "gpu-ci-7", "b" * 40])
@pytest.mark.parametrize("inputs", [StartInputs, StopInputs])
def test_a_kept_machine_has_a_name_that_runners_and_clouds_take(
    inputs: type[StartInputs | StopInputs], name: str
) -> None:
    """Letters, digits, hyphens and underscores, at most 40, in any case."""
    assert inputs.read(kept_env(machine_name=f" {name} ")).machine_name == name


@pytest.mark.usefixtures("keeping")
@pytest.mark.parametrize(
    "name", ["b" * 41, "a b", "a.b", "a/b", "b\u00f6x", "a\nb", "gpu-ci-7-box"]
)
@pytest.mark.parametrize("inputs", [StartInputs, StopInputs])
def test_another_name_of_a_kept_machine_is_a_problem(
    inputs: type[StartInputs | StopInputs], name: str
) -> None:
    """One that would be cut or refused later, and one of a machine that is not kept, which a stop
    of its run would end."""
    (problem,) = problems_of(inputs, kept_env(machine_name=name))
    assert problem.startswith(f"machine-name is {name!r}; it must be 1 to 40 letters")


@pytest.mark.usefixtures("keeping")
@pytest.mark.parametrize(
    ("given_inputs", "part"),
    [
        ({"count": "2"}, "machine-name names one machine: start it once."),
        ({"registration": "token"}, "registration: token is not for keeper"),
        ({"registration": "token", "machine_name": ""}, "registration: token is not for keeper"),
    ],
)
def test_what_a_kept_machine_cannot_have(given_inputs: dict[str, str], part: str) -> None:
    """One machine has one runner at a time, and its registration must stand before it is touched:
    it is the lock."""
    (problem,) = problems_of(StartInputs, kept_env(**given_inputs))
    assert part in problem


@pytest.mark.usefixtures("keeping")
def test_what_a_kept_machine_can_have() -> None:
    """The same inputs one by one: a provider that keeps machines also makes several fresh ones."""
    assert StartInputs.read(kept_env(count="1", registration="jit")).machine_name == "box"
    assert StartInputs.read(kept_env(count="2", machine_name="")).count == 2
    for release in ("auto", "pause", "terminate", "keep"):
        assert StopInputs.read(kept_env(release=release)).release == release


@pytest.mark.usefixtures("keeping")
def test_a_stop_in_a_terminal_may_name_a_kept_machine() -> None:
    """It needs no run to know what is meant."""
    env = kept_env()
    del env["GITHUB_RUN_ID"]
    assert StopInputs.read(env).machine_name == "box"


@pytest.mark.usefixtures("keeping")
@pytest.mark.parametrize("inputs", [StartInputs, StopInputs])
@pytest.mark.parametrize("unset", [{}, {"KEEPER_KEY": ""}])
def test_a_providers_missing_secret_is_named_with_its_cure(
    inputs: type[StartInputs | StopInputs], unset: dict[str, str]
) -> None:
    """Unset, and empty as a secret that does not exist is: the variable, where to set it, and why a
    run may not get it, before anything is asked of the cloud."""
    env = kept_env()
    del env["KEEPER_KEY"]
    (problem,) = problems_of(inputs, env | unset)
    assert problem.startswith("KEEPER_KEY is not set: it has to come from a secret")
    assert "forks and from Dependabot" in problem


@pytest.mark.parametrize("provider", PROVIDERS)
def test_only_what_is_required_must_be_there(provider: str) -> None:
    """A login stands in for keys of AWS, and a key for SSH is for some users only."""
    env = start_env(provider=provider)
    given_secrets = dict.fromkeys(required(provider), "k")
    assert StartInputs.read(env | given_secrets).provider == provider
    for name in given_secrets:
        (problem,) = problems_of(StartInputs, env | given_secrets | {name: ""})
        assert problem.startswith(f"{name} is not set")


def required(provider: str) -> list[str]:
    """Return the variables without which the provider cannot be asked anything."""
    secrets = PROVIDERS[provider].secrets
    return [name for name, secret in secrets.items() if secret.required]


@pytest.mark.usefixtures("keeping")
def test_an_app_needs_no_token_beside_it() -> None:
    """What is missing then is the provider's secret alone."""
    env = kept_env(github_token="", app_id="1", app_private_key=PEM)
    assert StartInputs.read(env).github.app_id == "1"
    (problem,) = problems_of(StartInputs, env | {"KEEPER_KEY": ""})
    assert problem.startswith("KEEPER_KEY is not set")


@pytest.mark.usefixtures("keeping")
@pytest.mark.parametrize("story", [start, stop])
def test_a_forks_pull_request_reads_one_sentence(
    monkeypatch: pytest.MonkeyPatch, story: Callable[[Mapping[str, str]], None]
) -> None:
    """All secrets are empty in it (fork PRs: pain 47): one paragraph says so, not one for each
    secret, and neither GitHub nor the cloud is asked anything."""

    def asked(*_args: object, **_named: object) -> NoReturn:
        pytest.fail("something was asked")

    monkeypatch.setattr(GitHub, "connect", asked)
    monkeypatch.setattr(FakeKeeper, "__init__", asked)
    with pytest.raises(BadInputs) as caught:
        story(kept_env(github_token="") | {"KEEPER_KEY": ""})
    (problem,) = caught.value.problems
    assert "This run has no secrets (KEEPER_KEY and github-token are empty)" in problem
    for word in ("a fork", "Dependabot", "a maintainer can run it from a branch"):
        assert word in problem


def watchdog_env(**inputs: str) -> dict[str, str]:
    """Return the environment of a watchdog's step, in whose run no secret is known."""
    env = start_env(**inputs)
    for name in ("provider", "github_token"):
        env[variable(name)] = inputs.get(name, "")
    return env | {"GPU_CI_RUN_TOKEN": TOKEN, "KEEPER_KEY": "k"}


def test_a_watchdog_needs_no_input() -> None:
    """The job's own token is enough for its own run; all else has a value that fits most."""
    inputs = WatchdogInputs.read(watchdog_env())
    assert (inputs.scope, inputs.github.token, inputs.github.run_token) == ("run", TOKEN, TOKEN)
    assert (inputs.queue, inputs.max_actions, inputs.dry_run) == (900, 20, False)
    assert (inputs.labels, inputs.providers, inputs.region, inputs.machine_name) == ((),) * 4
    assert (inputs.provider_options, inputs.cache_dir) == ({}, "")


def test_the_jobs_own_token_does_not_stand_in_for_an_app() -> None:
    """Who gives an App wants runners to be seen; the token would hide that it was given."""
    inputs = WatchdogInputs.read(watchdog_env(app_id="1", app_private_key=PEM))
    assert (inputs.github.token, inputs.github.app_id) == ("", "1")
    (problem,) = problems_of(WatchdogInputs, watchdog_env(app_id="1"))
    assert "app-private-key is not set" in problem


def test_a_watchdog_without_any_token_is_told() -> None:
    """In a terminal there is no job's token: what is missing is named."""
    env = watchdog_env(scope="repository") | {"GPU_CI_RUN_TOKEN": ""}
    (problem,) = problems_of(WatchdogInputs, env)
    assert problem.startswith("github-token is empty")


BAD_FOR_A_WATCHDOG = {
    "scope": "job",
    "queue-minutes": "0",
    "providers": "gcp",
    "provider-options": "[]",
    "max-actions": "1001",
    "dry-run": "perhaps",
    "github-api-url": "api.github.com",
    "organization": "octo cat",
    "machine-name": "a b",
}


def test_every_problem_of_a_watchdog_is_reported_at_once() -> None:
    """Each is named; machine-name twice, since no provider that was named keeps machines."""
    given_inputs = {name.replace("-", "_"): value for name, value in BAD_FOR_A_WATCHDOG.items()}
    problems = problems_of(WatchdogInputs, watchdog_env(**given_inputs))
    begins = {problem.split()[0].strip(":") for problem in problems}
    assert begins >= BAD_FOR_A_WATCHDOG.keys() - {"scope"}
    assert any(problem.startswith("scope is 'job'") for problem in problems)


@pytest.mark.usefixtures("keeping")
@pytest.mark.parametrize(
    ("given_inputs", "part"),
    [
        ({"providers": "fake"}, "providers and machine-name are for scope: repository"),
        ({"scope": "repository", "region": "here"}, "region is for exactly one provider"),
        (
            {"scope": "repository", "region": "here", "providers": "fake, keeper"},
            "region is for exactly one provider",
        ),
        (
            {"scope": "repository", "machine_name": "box", "providers": "fake"},
            "machine-name needs a provider that keeps machines: ",
        ),
        (
            {"scope": "repository", "machine_name": "box, gpu-ci-7-1", "providers": "keeper"},
            "machine-name is 'gpu-ci-7-1'; it must be 1 to 40 letters",
        ),
        ({"scope": "repository", "providers": "fake, gcp"}, "providers: 'gcp' is none of "),
        (
            {"scope": "repository", "providers": "fake, keeper", "provider_options": '{"x": 1}'},
            "provider-options: 'x' is none of providers.",
        ),
        (
            {"scope": "repository", "providers": "fake", "provider_options": '{"x": 1}'},
            "x is not known",
        ),
    ],
)
def test_a_watchdogs_inputs_that_do_not_fit_together(
    given_inputs: dict[str, str], part: str
) -> None:
    """What is wrong only in combination is one problem, with the cure."""
    (problem,) = problems_of(WatchdogInputs, watchdog_env(**given_inputs))
    assert part in problem


@pytest.mark.usefixtures("keeping")
def test_a_watchdog_of_several_clouds() -> None:
    """Lists as everywhere: commas or line ends; each cloud has its own options."""
    inputs = WatchdogInputs.read(
        watchdog_env(
            scope="repository",
            providers="fake\nkeeper, local",
            machine_name="box\ncrate",
            provider_options='{"local": {"user": "me"}}',
            labels="a100, GPU-*",
            cache_dir=" kept/here ",
        )
    )
    assert inputs.providers == ("fake", "keeper", "local")
    assert inputs.machine_name == ("box", "crate")
    assert inputs.provider_options["local"].user == "me"
    assert inputs.labels == ("a100", "GPU-*")
    assert inputs.cache_dir == "kept/here"


@pytest.mark.parametrize("text", ['{"user": "me"}', '{"local": {"user": "me"}}'])
def test_one_clouds_options_need_no_name(text: str) -> None:
    """With one provider they are written as for start and stop, or as with several."""
    env = watchdog_env(scope="repository", providers="local", provider_options=text)
    assert WatchdogInputs.read(env).provider_options["local"].user == "me"


@pytest.mark.usefixtures("keeping")
def test_a_watchdog_needs_the_secrets_of_its_clouds() -> None:
    """Those of the providers that it is to look at, and no others."""
    env = watchdog_env(scope="repository", providers="keeper") | {"KEEPER_KEY": ""}
    (problem,) = problems_of(WatchdogInputs, env)
    assert problem.startswith("KEEPER_KEY is not set")
    others = WatchdogInputs.read(env | {variable("providers"): "fake"})
    assert others.providers == ("fake",)


def test_a_run_is_needed_to_watch_one() -> None:
    """In a terminal the other scope is named."""
    env = watchdog_env() | {"GITHUB_RUN_ID": ""}
    (problem,) = problems_of(WatchdogInputs, env)
    assert "--scope repository" in problem
    with pytest.raises(BadInputs):
        watchdog(env)
