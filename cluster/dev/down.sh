#!/usr/bin/env bash
# Stops a cluster that cluster/dev/up.sh started. Its data stays in the folder.
#
#   cluster/dev/down.sh [FOLDER]         ./rookery-cluster if not said
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-rookery-cluster}
# shellcheck source=cluster/dev/processes.sh
. "$here/processes.sh"

[[ -d $folder ]] || die "there is no cluster in $folder"
# The proxy last, so that sockets are closed by the nodes; what they need after them.
for name in node-1 node-2 node-3 reader consumer-1 consumer-2 haproxy prometheus redis; do
  stop "$folder/$name.pid"
done
stop "$folder/cassandra/pid"
rm -f "$folder/settings"
