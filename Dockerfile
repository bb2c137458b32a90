# `gpu-ci` with every provider, for schedulers that are not GitHub's: docs/how-to/elsewhere.md.
FROM debian:bookworm-slim AS build
# No versions: Debian drops old ones from its mirrors, and has mended what was wrong in them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl python3 unzip \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/gpu-ci
COPY LICENSE pyproject.toml uv.lock ./
COPY shared/ shared/
# The lock is of both packages: uv wants to see each, and installs neither.
COPY sandbox/pyproject.toml sandbox/
ENV XDG_CACHE_HOME=/build
# shared/run fetches the uv that uv.lock pins and compares its checksum; that uv installs the rest of
# the lock, by a cache of its own, since what shared/run keeps is readable for its user alone.
RUN sh shared/run --help >/dev/null \
    && uv=$(echo /build/gpu-ci/uv-*) \
    && UV_CACHE_DIR=/build/cache UV_PROJECT_ENVIRONMENT=/opt/gpu-ci/venv UV_SYSTEM_CERTS=1 \
        "$uv" sync --frozen --no-default-groups --no-install-workspace --compile-bytecode \
        --python /usr/bin/python3 --extra app --extra aws --extra jarvislabs \
    && /usr/bin/python3 -m compileall -q shared \
    && printf '#!/bin/sh\nexec /opt/gpu-ci/venv/bin/python -I -u -X utf8 /opt/gpu-ci/shared "$@"\n' \
        >/usr/local/bin/gpu-ci \
    && chmod 755 /usr/local/bin/gpu-ci

FROM debian:bookworm-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin gpu-ci
COPY --from=build /opt/gpu-ci /opt/gpu-ci
COPY --from=build /usr/local/bin/gpu-ci /usr/local/bin/gpu-ci
USER 10001:10001
WORKDIR /home/gpu-ci
ENTRYPOINT ["gpu-ci"]
CMD ["--help"]
