#!/usr/bin/env bash
# Stops what cassandra-up.sh started.
#
#   cluster/cassandra-down.sh FOLDER [-9]    -9 ends it at once, as a crash would; else it drains first
set -euo pipefail

file=$1/pid
[[ -f $file ]] || exit 0
pid=$(<"$file")
kill "${2:--TERM}" "$pid" 2>/dev/null || true
for _ in {1..300}; do
  if ! kill -0 "$pid" 2>/dev/null; then
    rm -f "$file"
    exit 0
  fi
  sleep 0.1
done
kill -9 "$pid" 2>/dev/null || true
rm -f "$file"
