#!/usr/bin/env bash
# Builds Jaeger 2 with Go (1.25 or later), once for each version, and prints where the program is.
#
#   "$(cluster/dev/jaeger-build.sh)" --config cluster/dev/jaeger/config.yaml
#
# Ends with 2 where there is no such Go.
#
# cluster/dev/jaeger/go.mod says which version. Its query API (port 16686) is whole; its page is a placeholder,
# because the page's files are not part of the Go module. The container image (see docker-compose.yml) has it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(cat "$here"/jaeger/go.mod "$here"/jaeger/go.sum | sha256sum | cut -c 1-16)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/rookery/jaeger/$version

if [[ ! -x $folder/jaeger ]]; then
  # In that folder, go.mod says what version it must be; Go 1.21 and later fetch it themselves.
  if ! (cd "$here/jaeger" && go version) >/dev/null 2>&1; then
    printf 'Go 1.25 or later is missing (https://go.dev/dl): Jaeger can not be built\n' >&2
    exit 2
  fi
  mkdir -p "$folder"
  # Into place as a whole: another run may be building it too.
  unfinished=$(mktemp "$folder/jaeger.XXXXXX")
  trap 'rm -f "$unfinished"' EXIT
  (cd "$here/jaeger" && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags '-s -w' -o "$unfinished" \
    github.com/jaegertracing/jaeger/cmd/jaeger) >&2
  mv "$unfinished" "$folder/jaeger"
fi
printf '%s\n' "$folder/jaeger"
