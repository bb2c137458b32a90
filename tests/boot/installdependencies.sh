#!/bin/sh
# Installs nothing; fails as often as the file `locked` beside the runner's folder says.
locked=$(dirname "$0")/../../locked
count=$(cat "$locked" 2>/dev/null || echo 0)
if [ "$count" -gt 0 ]; then
    echo $((count - 1)) >"$locked"
    echo "E: Could not get lock /var/lib/dpkg/lock-frontend"
    exit 1
fi
echo "installed the libraries as $(id -u)"
