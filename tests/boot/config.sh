#!/bin/sh
# Registers the test's runner by token, or refuses the token `bad`.
here=$(dirname "$0")
printf '%s\n' "$@" >"$here/given.config"
if [ "$ACTIONS_RUNNER_INPUT_TOKEN" = bad ]; then
    echo "Http response code: NotFound from 'POST https://api.github.test/runner-registration'"
    exit 1
fi
echo "$ACTIONS_RUNNER_INPUT_TOKEN" >"$here/.runner"
