#!/usr/bin/env bash
# Starts a cluster on this machine without Docker: Redis, Cassandra as the CQL server, three nodes, and
# HAProxy in front of them. All on loopback. Of a cluster that runs already it starts what is missing.
# cluster/dev/down.sh stops it, cluster/dev/restart.sh starts one node anew.
#
#   cluster/dev/up.sh [--aggregator] [FOLDER]
#                                        data, logs and process ids; ./rookery-cluster if not said
#   --aggregator                         also processes that read other relays (one) and store what these send (two),
#                                        with a queue in Redis between them: docs/aggregator.md
#
#   ROOKERY_PORT=7777                where clients connect
#   ROOKERY_BASE_PORT=17700          ports of the nodes: +1 to +3, of their operations: +11 to +13, of those that read
#                                    other relays: +14 to +16, of Redis: +20, of CQL: +21, of Cassandra's own traffic:
#                                    +22, of Prometheus: +23
#   ROOKERY_URL=ws://127.0.0.1:7777  what clients use, and name in AUTH; with the port above if not said
#   ROOKERY_BINARY=                  the program; built by cargo if not said
#
# Needs redis-server, haproxy and curl (Debian packages), Java 17 and, the first time, Maven. Where Prometheus is
# installed (Debian: prometheus), it watches the nodes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
aggregator=
if [[ ${1:-} == --aggregator ]]; then
  aggregator=yes
  shift
fi
folder=$(realpath -m "${1:-rookery-cluster}")
# shellcheck source=cluster/dev/processes.sh
. "$here/processes.sh"

for command in redis-server haproxy java curl; do
  type -P "$command" >/dev/null || die "$command is missing"
done

# Until down.sh, ports and program stay what they were at the first start.
settings=$folder/settings
if [[ -e $settings ]]; then
  # shellcheck source=/dev/null
  . "$settings"
  if [[ -n $aggregator && -z ${ROOKERY_AGGREGATOR:-} ]]; then
    die "the cluster in $folder runs without --aggregator: take it down first"
  fi
  aggregator=${ROOKERY_AGGREGATOR:-}
fi
port=${ROOKERY_PORT:-7777}
base=${ROOKERY_BASE_PORT:-17700}
binary=${ROOKERY_BINARY:-}
redis=$((base + 20)) cql=$((base + 21)) watch=$((base + 23))

# What is to run, and its ports.
declare -A ports=([redis]=$redis [cassandra]="$cql $((base + 22))" [haproxy]=$port)
for number in 1 2 3; do
  ports[node-$number]="$((base + number)) $((base + 10 + number))"
done
# What reads other relays, and what each of them does.
declare -A roles=()
if [[ -n $aggregator ]]; then
  roles=([reader]=read [consumer-1]=consume [consumer-2]=consume)
  ports[reader]=$((base + 14)) ports[consumer-1]=$((base + 15)) ports[consumer-2]=$((base + 16))
fi
# Only where it is installed: the cluster runs without.
if type -P prometheus >/dev/null; then
  ports[prometheus]=$watch
fi

# file NAME: where the id of that process stands
file() {
  if [[ $1 == cassandra ]]; then
    printf '%s\n' "$folder/cassandra/pid"
  else
    printf '%s\n' "$folder/$1.pid"
  fi
}

needed=()
for name in "${!ports[@]}"; do
  if ! is_running "$(file "$name")"; then
    for wanted in ${ports[$name]}; do
      needed+=("127.0.0.1:$wanted")
    done
  fi
done
ask_for "${needed[@]}" || die 'ROOKERY_PORT and ROOKERY_BASE_PORT choose other ports.'

if [[ -z $binary ]]; then
  # Where it puts the program is cargo's to say: CARGO_TARGET_DIR, or a configuration.
  binary=$(cargo build --locked --release --bin rookery --manifest-path "$here/../../Cargo.toml" \
    --message-format json-render-diagnostics | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p')
fi
type -P "$binary" >/dev/null || die "there is no program $binary"
binary=$(realpath "$(type -P "$binary")")

mkdir -p "$folder"

# What this run started ends with it, unless all is well.
started=()
undo() {
  local status=$? name
  ((status == 0 || ${#started[@]} == 0)) && return
  for name in "${started[@]}"; do
    stop "$(file "$name")"
  done
  printf 'What was started has been stopped again. The logs are in %s.\n' "$folder" >&2
}
trap undo EXIT

# start NAME COMMAND…: in the background and without a terminal, its words at the end of NAME.log. Nothing if it runs.
start() {
  local name=$1
  shift
  if is_running "$(file "$name")"; then
    return
  fi
  (cd "$folder" && exec setsid "$@") >>"$folder/$name.log" 2>&1 </dev/null &
  note "$(file "$name")" $!
  started+=("$name")
}

# await NAME COMMAND…: until it has its ports, and the command succeeds
await() {
  local name=$1 wanted missing
  shift
  for _ in {1..600}; do
    is_running "$(file "$name")" || die "$name has ended. Its last words:
$(tail -20 "$folder/$name.log")"
    missing=
    for wanted in ${ports[$name]}; do
      listens "$(file "$name")" 127.0.0.1 "$wanted" || missing+=" $wanted"
    done
    if [[ -z $missing ]] && "$@" >/dev/null 2>&1; then
      return
    fi
    sleep 0.1
  done
  die "$name does not answer${missing:+, and does not have port$missing}. Its last words:
$(tail -20 "$folder/$name.log")"
}

get() { curl --fail --silent --max-time 5 "http://127.0.0.1:$1"; }

start redis redis-server --bind 127.0.0.1 --port "$redis" --save '' --appendonly no --dir "$folder"
await redis true
if ! is_running "$(file cassandra)"; then
  CASSANDRA_CQL_PORT=$cql CASSANDRA_STORAGE_PORT=$((base + 22)) "$here/cassandra-up.sh" "$folder/cassandra"
  started+=(cassandra)
fi
# One server, so one copy of everything.
"$binary" schema apply --scylla "127.0.0.1:$cql" \
  --replication "{'class': 'NetworkTopologyStrategy', 'replication_factor': 1}"
# The nodes have one key of accounts, and one token for operators.
for secret in "$folder/master.key" "$folder/ops.token"; do
  if [[ ! -e $secret ]]; then
    (umask 077 && head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$secret.new" && mv "$secret.new" "$secret")
  fi
done
# What all of them are told. The variables of this script are no settings of a relay.
node=(env -u ROOKERY_PORT -u ROOKERY_BASE_PORT -u ROOKERY_BINARY -u ROOKERY_AGGREGATOR "$binary")
shared=(--redis "redis://127.0.0.1:$redis" --scylla "127.0.0.1:$cql"
  --set "master_key_file=$folder/master.key" --set "ops_token_file=$folder/ops.token")
if [[ -n $aggregator ]]; then
  shared+=(--set aggregator.queue=redis)
fi
addresses=()
for number in 1 2 3; do
  start "node-$number" "${node[@]}" relay --node-id "node-$number" --url "${ROOKERY_URL:-ws://127.0.0.1:$port}" \
    --listen "127.0.0.1:$((base + number))" --ops-listen "127.0.0.1:$((base + 10 + number))" \
    --trusted-proxy 127.0.0.1/32 "${shared[@]}" ${aggregator:+--set aggregator.role=none}
  addresses+=("ROOKERY_NODE_$number=127.0.0.1:$((base + number))" "ROOKERY_OPS_$number=$((base + 10 + number))")
done
for name in "${!roles[@]}"; do
  start "$name" "${node[@]}" aggregator --role "${roles[$name]}" --node-id "$name" \
    --ops-listen "127.0.0.1:${ports[$name]}" "${shared[@]}"
done
for number in 1 2 3; do
  await "node-$number" get "$((base + 10 + number))/health/ready"
done
for name in "${!roles[@]}"; do
  await "$name" get "${ports[$name]}/health/ready"
done
start haproxy env "ROOKERY_BIND=127.0.0.1:$port" "${addresses[@]}" haproxy -f "$here/../haproxy.cfg"
await haproxy get "$port/"

if [[ -n ${ports[prometheus]:-} ]]; then
  targets=\"127.0.0.1:$((base + 11))\",\"127.0.0.1:$((base + 12))\",\"127.0.0.1:$((base + 13))\"
  for name in "${!roles[@]}"; do
    targets+=,\"127.0.0.1:${ports[$name]}\"
  done
  # There is no name server that knows those that read other relays.
  sed "s/targets: .*/targets: [$targets]/; /# Those that read/,\$d" "$here/../prometheus.yml" >"$folder/prometheus.yml"
  cp "$here/../alerts.yml" "$folder"
  start prometheus prometheus --config.file="$folder/prometheus.yml" --storage.tsdb.path="$folder/prometheus" \
    --web.listen-address="127.0.0.1:$watch"
  await prometheus get "$watch/-/ready"
  printf 'Prometheus: http://127.0.0.1:%s\n' "$watch"
fi

printf '%s=%q\n' ROOKERY_PORT "$port" ROOKERY_BASE_PORT "$base" ROOKERY_URL "${ROOKERY_URL:-ws://127.0.0.1:$port}" ROOKERY_BINARY "$binary" \
  ROOKERY_AGGREGATOR "$aggregator" >"$settings"
if [[ -n $aggregator ]]; then
  printf 'Have other relays be read with: %s upstream add wss://… --ops-listen 127.0.0.1:%s --ops-token-file %s\n' \
    "$binary" "$((base + 11))" "$folder/ops.token"
fi
printf 'The cluster is up: ws://127.0.0.1:%s\nStop it with: %s/down.sh %s\n' "$port" "$here" "$folder"
