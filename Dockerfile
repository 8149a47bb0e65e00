# syntax=docker/dockerfile:1
#
#   docker build --tag rookery .
#   docker run --publish 7777:7777 --volume rookery-data:/data --volume rookery-keys:/keys rookery
#
# All tests, in a container:
#   docker build --target test .

ARG RUST_VERSION=1.95
ARG DEBIAN=bookworm

FROM rust:${RUST_VERSION}-slim-${DEBIAN} AS source
# The C code of LMDB, zstd, libsecp256k1, ring and AWS-LC needs a compiler and the C library's headers.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends build-essential \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .

FROM source AS test
# Fails where a test does.
RUN cluster/test.sh

FROM source AS build
# Line numbers for backtraces would be most of the image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin rookery \
 && strip --strip-debug -o /usr/local/bin/rookery target/release/rookery

# The Debian that it was built on, so that the C library is the same.
FROM debian:${DEBIAN}-slim AS relay
# The authorities that links by TLS are checked with.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/*
# A new volume takes over the owner of the folder that it is mounted on.
RUN install --directory --owner=10001 --group=10001 --mode=0750 /data \
 && install --directory --owner=10001 --group=10001 --mode=0700 /keys
COPY --from=build /usr/local/bin/rookery /usr/local/bin/rookery
USER 10001:10001
# The key of accounts, apart from what it protects.
VOLUME /data /keys
EXPOSE 7777
# The operators' port stays on the container's loopback unless --ops-listen says otherwise.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9777 && printf 'GET /health/ready HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [[ $status == 200 ]]"]
# Events in flight are answered and sockets closed first: see "Shutdown" in docs/operations.md.
STOPSIGNAL SIGTERM
ENTRYPOINT ["rookery"]
CMD ["relay", "--listen", "0.0.0.0:7777", "--data", "/data", "--set", "master_key_file=/keys/master.key"]
