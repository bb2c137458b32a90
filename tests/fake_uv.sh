#!/bin/sh
# Stands in for uv in test_run.py: notes what it was asked in $FAKE_UV_LOG, and makes environments
# that are a link to $FAKE_UV_PYTHON. With $FAKE_UV_HOLD, `sync` says that it is there (`arrived`)
# and waits for a line (`go`).
set -eu
echo "$*" >>"$FAKE_UV_LOG"
case $1 in
--version) echo "uv 0.12.5 (stand-in)" ;;
python) echo "$FAKE_UV_PYTHON" ;;
venv)
    for folder; do :; done
    mkdir -p "$folder/bin"
    ln -s "$FAKE_UV_PYTHON" "$folder/bin/python"
    ;;
sync)
    env | LC_ALL=C sort >"$FAKE_UV_LOG.env"
    if [ -n "${FAKE_UV_HOLD-}" ]; then
        echo "$$" >"$FAKE_UV_HOLD/arrived"
        read -r _ <"$FAKE_UV_HOLD/go"
    fi
    ;;
esac
