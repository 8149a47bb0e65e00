#!/usr/bin/env bash
# Stops what cassandra-up.sh started.
#
#   cluster/dev/cassandra-down.sh FOLDER [-9]    -9 ends it at once, as a crash would; else it drains first
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=cluster/dev/processes.sh
. "$here/processes.sh"

stop "$1/pid" "${2:--TERM}"
