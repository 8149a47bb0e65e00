#!/usr/bin/env bash
# Builds an OpenTelemetry Collector with Go (1.25 or later), once for each version, and prints where the program is.
#
#   "$(cluster/dev/collector-build.sh)" --config cluster/collector.yaml
#
# Ends with 2 where there is no such Go.
#
# It has the parts that cluster/collector.yaml names, and no others: cluster/dev/collector/main.go lists them, go.mod
# beside it says in which version.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
version=$(cat "$here"/collector/{main.go,go.mod,go.sum} | sha256sum | cut -c 1-16)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/rookery/collector/$version

if [[ ! -x $folder/collector ]]; then
  # In that folder, go.mod says what version it must be; Go 1.21 and later fetch it themselves.
  if ! (cd "$here/collector" && go version) >/dev/null 2>&1; then
    printf 'Go 1.25 or later is missing (https://go.dev/dl): the collector can not be built\n' >&2
    exit 2
  fi
  mkdir -p "$folder"
  # Into place as a whole: another run may be building it too.
  unfinished=$(mktemp "$folder/collector.XXXXXX")
  trap 'rm -f "$unfinished"' EXIT
  (cd "$here/collector" && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags '-s -w' -o "$unfinished" .) >&2
  mv "$unfinished" "$folder/collector"
fi
printf '%s\n' "$folder/collector"
