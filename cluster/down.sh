#!/usr/bin/env bash
# Stops a cluster that cluster/up.sh started. Its data stays in the folder.
#
#   cluster/down.sh [FOLDER]         ./rookery-cluster if not said
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${1:-rookery-cluster}

# stop NAME: asks, and waits until it is gone
stop() {
  local file=$folder/$1.pid
  [[ -e $file ]] || return 0
  local pid
  pid=$(<"$file")
  kill "$pid" 2>/dev/null || true
  for _ in {1..200}; do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
  rm "$file"
}

# The proxy last, so that sockets are closed by the nodes; what they need after them.
for name in node-1 node-2 node-3 haproxy prometheus redis; do
  stop "$name"
done
if [[ -d $folder/cassandra ]]; then
  "$here/cassandra-down.sh" "$folder/cassandra"
fi
