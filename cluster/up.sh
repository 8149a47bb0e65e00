#!/usr/bin/env bash
# Starts a cluster on this machine without Docker: Redis, Cassandra as the CQL server, three nodes, and
# HAProxy in front of them. All on loopback. cluster/down.sh stops it.
#
#   cluster/up.sh [FOLDER]           data, logs and process ids; ./rookery-cluster if not said
#
#   ROOKERY_PORT=7777                where clients connect
#   ROOKERY_BASE_PORT=17700          ports of the nodes: +1 to +3, of their operations: +11 to +13, of Redis: +20,
#                                    of CQL: +21, of Cassandra's own traffic: +22, of Prometheus: +23
#   ROOKERY_BINARY=                  the program; built by cargo if not said
#
# Needs redis-server and haproxy (Debian packages), Java 17 and, the first time, Maven. Where Prometheus is installed
# (Debian: prometheus), it watches the nodes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(mkdir -p "${1:-rookery-cluster}" && cd "${1:-rookery-cluster}" && pwd)
port=${ROOKERY_PORT:-7777}
base=${ROOKERY_BASE_PORT:-17700}
binary=${ROOKERY_BINARY:-}
redis=$((base + 20)) cql=$((base + 21))

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

for command in redis-server haproxy java curl; do
  type -P "$command" >/dev/null || die "$command is missing"
done
if compgen -G "$folder/*.pid" >/dev/null; then
  die "a cluster was started in $folder; stop it with: $here/down.sh $folder"
fi
if [[ -z $binary ]]; then
  cargo build --locked --release --manifest-path "$here/../Cargo.toml"
  binary=$here/../target/release/rookery
fi

# start NAME COMMAND…: in the background, its words in NAME.log, its process id in NAME.pid
start() {
  local name=$1
  shift
  "$@" >"$folder/$name.log" 2>&1 </dev/null &
  printf '%s\n' $! >"$folder/$name.pid"
}

# await WHAT COMMAND…: until it succeeds
await() {
  local what=$1
  shift
  for _ in {1..600}; do
    if "$@" >/dev/null 2>&1; then
      return
    fi
    sleep 0.1
  done
  die "$what does not answer; see the logs in $folder"
}

start redis redis-server --bind 127.0.0.1 --port "$redis" --save '' --appendonly no --dir "$folder"
CASSANDRA_CQL_PORT=$cql CASSANDRA_STORAGE_PORT=$((base + 22)) "$here/cassandra-up.sh" "$folder/cassandra"
# One server, so one copy of everything.
"$binary" schema apply --scylla "127.0.0.1:$cql" \
  --replication "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}"
for node in 1 2 3; do
  start "node-$node" "$binary" relay --node-id "node-$node" \
    --listen "127.0.0.1:$((base + node))" --ops-listen "127.0.0.1:$((base + 10 + node))" \
    --redis "redis://127.0.0.1:$redis" --scylla "127.0.0.1:$cql" --trusted-proxy 127.0.0.1/32
  export "ROOKERY_NODE_$node=127.0.0.1:$((base + node))" "ROOKERY_OPS_$node=$((base + 10 + node))"
done
for node in 1 2 3; do
  await "node $node" curl --fail --silent "http://127.0.0.1:$((base + 10 + node))/health/ready"
done
ROOKERY_BIND=127.0.0.1:$port start haproxy haproxy -f "$here/haproxy.cfg"
await HAProxy curl --fail --silent "http://127.0.0.1:$port/"

# Only where it is installed: the cluster runs without.
if type -P prometheus >/dev/null; then
  sed "s/node-1:9777/127.0.0.1:$((base + 11))/; s/node-2:9777/127.0.0.1:$((base + 12))/; \
    s/node-3:9777/127.0.0.1:$((base + 13))/" "$here/prometheus.yml" >"$folder/prometheus.yml"
  cp "$here/alerts.yml" "$folder"
  start prometheus prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/prometheus" \
    --web.listen-address="127.0.0.1:$((base + 23))"
  printf 'Prometheus: http://127.0.0.1:%s\n' "$((base + 23))"
fi

printf 'The cluster is up: ws://127.0.0.1:%s\nStop it with: %s/down.sh %s\n' "$port" "$here" "$folder"
