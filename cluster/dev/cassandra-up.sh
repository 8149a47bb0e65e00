#!/usr/bin/env bash
# Starts Apache Cassandra on loopback from its jars in Maven Central, and waits until it answers CQL. For tests
# and for trying things out: small heap, no authentication, no care for data.
#
#   cluster/dev/cassandra-up.sh FOLDER [NUMBER]    node NUMBER (1 if not said) listens on 127.0.0.NUMBER
#
#   CASSANDRA_VERSION=5.0.9          CASSANDRA_CACHE=~/.cache/rookery/cassandra  (the jars, about 70 MB)
#   CASSANDRA_CQL_PORT=9042          CASSANDRA_STORAGE_PORT=7000
#   CASSANDRA_SEEDS=127.0.0.1        CASSANDRA_HEAP=512m
#   CASSANDRA_WAIT=120               seconds until it must answer
#   CASSANDRA_COMMITLOG_SYNC=periodic  or batch: what is acknowledged survives the end of the server
#   CASSANDRA_TLS=                   file (PEM) with key and certificate: clients speak TLS, or nothing
#   CASSANDRA_TLS_CLIENTS=           file (PEM) with authorities: clients show a certificate that is of one of them
#   CASSANDRA_OWNER=                 process id; when that is gone, so is the server
#   CASSANDRA_JVM_FLAGS=             more flags for Java
#
# Needs Java 17 and, the first time, Maven. cassandra-down.sh stops it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$(mkdir -p "$1" && cd "$1" && pwd)
address=127.0.0.${2:-1}
version=${CASSANDRA_VERSION:-5.0.9}
cache=${CASSANDRA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rookery/cassandra}
port=${CASSANDRA_CQL_PORT:-9042}
storage=${CASSANDRA_STORAGE_PORT:-7000}
jars=$cache/$version
# shellcheck source=cluster/dev/processes.sh
. "$here/processes.sh"

if is_running "$folder/pid"; then
  die "already running as process $(<"$folder/pid")"
fi
ask_for "$address:$port" "$address:$storage" || die 'CASSANDRA_CQL_PORT and CASSANDRA_STORAGE_PORT choose other ports.'
type -P java >/dev/null || die 'Java is missing (Debian: openjdk-17-jre-headless)'
if [[ ! -e $jars/complete ]]; then
  type -P mvn >/dev/null || die 'Maven is missing (Debian: maven)'
  mkdir -p "$jars"
  mvn --batch-mode --quiet --file "$here/cassandra.pom.xml" -Dcassandra.version="$version" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$jars" >&2
  touch "$jars/complete"
fi

# Periodic: up to 100 ms of what was acknowledged is lost with the process, 10 s with the machine.
commitlog_sync='commitlog_sync: batch'
if [[ ${CASSANDRA_COMMITLOG_SYNC:-periodic} == periodic ]]; then
  commitlog_sync=$'commitlog_sync: periodic\ncommitlog_sync_period: 10s'
fi
client_encryption=
if [[ -n ${CASSANDRA_TLS:-} ]]; then
  client_encryption="client_encryption_options:
  enabled: true
  optional: false
  ssl_context_factory: { class_name: org.apache.cassandra.security.PEMBasedSslContextFactory }
  keystore: $CASSANDRA_TLS"
  if [[ -n ${CASSANDRA_TLS_CLIENTS:-} ]]; then
    client_encryption+="
  require_client_auth: true
  truststore: $CASSANDRA_TLS_CLIENTS"
  fi
fi
mkdir -p "$folder/conf" "$folder/tmp"
cat >"$folder/conf/cassandra.yaml" <<YAML
cluster_name: rookery
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
dynamic_snitch: false
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{ seeds: "${CASSANDRA_SEEDS:-127.0.0.1}" }]
listen_address: $address
rpc_address: $address
storage_port: $storage
native_transport_port: $port
data_file_directories: ["$folder/data"]
commitlog_directory: $folder/commitlog
saved_caches_directory: $folder/saved_caches
hints_directory: $folder/hints
cdc_raw_directory: $folder/cdc_raw
$client_encryption
$commitlog_sync
commitlog_segment_size: 8MiB
commitlog_total_space: 64MiB
commitlog_disk_access_mode: legacy
memtable_heap_space: 64MiB
memtable_offheap_space: 64MiB
memtable_flush_writers: 1
concurrent_reads: 8
concurrent_writes: 8
concurrent_counter_writes: 2
concurrent_compactors: 1
native_transport_max_threads: 16
native_transport_timeout: 60s
key_cache_size: 8MiB
counter_cache_size: 0MiB
networking_cache_size: 16MiB
file_cache_size: 32MiB
prepared_statements_cache_size: 10MiB
auto_snapshot: false
hinted_handoff_enabled: true
write_request_timeout: 5s
read_request_timeout: 5s
truncate_request_timeout: 30s
phi_convict_threshold: 5
storage_compatibility_mode: NONE
sstable:
  selected_format: bti
authenticator: AllowAllAuthenticator
authorizer: AllowAllAuthorizer
YAML
cat >"$folder/conf/logback.xml" <<'XML'
<configuration>
  <appender name="STDOUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%date{ISO8601} %-5level [%thread] %logger{20} - %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="STDOUT"/></root>
</configuration>
XML

# What Cassandra reaches into since Java has modules.
modules=()
for package in java.base/jdk.internal.misc java.base/java.lang.ref jdk.unsupported/sun.misc \
  java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/sun.rmi.registry java.rmi/sun.rmi.server \
  java.sql/java.sql jdk.compiler/com.sun.tools.javac.file jdk.attach/sun.tools.attach; do
  modules+=(--add-exports "$package=ALL-UNNAMED")
done
for package in java.base/java.lang.module java.base/jdk.internal.loader java.base/jdk.internal.ref \
  java.base/jdk.internal.reflect java.base/jdk.internal.math java.base/jdk.internal.module \
  java.base/jdk.internal.util.jar java.base/sun.nio.ch java.base/java.io java.base/java.lang.reflect \
  java.base/java.lang java.base/java.util java.base/java.nio java.base/java.util.concurrent \
  java.base/java.util.concurrent.atomic jdk.management/com.sun.management.internal \
  jdk.compiler/com.sun.tools.javac; do
  modules+=(--add-opens "$package=ALL-UNNAMED")
done
flags=(
  -javaagent:"$(printf '%s\n' "$jars"/jamm-*.jar)"
  -Xms64m -Xmx"${CASSANDRA_HEAP:-512m}" -Xss512k -XX:+UseSerialGC -XX:MaxDirectMemorySize=256m
  -XX:+ExitOnOutOfMemoryError -XX:-UsePerfData
  -Djava.net.preferIPv4Stack=true -Djava.io.tmpdir="$folder/tmp" -Djna.tmpdir="$folder/tmp"
  -Djdk.attach.allowAttachSelf=true -Dio.netty.tryReflectionSetAccessible=true
  -Dcassandra.config="file://$folder/conf/cassandra.yaml"
  -Dlogback.configurationFile="file://$folder/conf/logback.xml"
  -Dcassandra.storagedir="$folder" -Dcassandra.logdir="$folder" -Dcassandra-foreground=yes
  # A cluster of this size has no gossip to wait for.
  -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms=1000
  -Dcassandra.consistent.rangemovement=false
  # Nobody logs in. With no pause a server that is alone tries to make roles without end.
  -Dcassandra.superuser_setup_delay_ms=10000
  -Dcassandra.available_processors=2
)
# Flags are separated by spaces, so this one is not quoted.
# shellcheck disable=SC2206
flags+=(${CASSANDRA_JVM_FLAGS:-})

cd "$folder"
MALLOC_ARENA_MAX=2 nohup setsid java "${modules[@]}" "${flags[@]}" -cp "$jars/*" \
  org.apache.cassandra.service.CassandraDaemon >>"$folder/log" 2>&1 </dev/null &
pid=$!
note "$folder/pid" "$pid"

# Nothing is left behind by a start that failed.
fail() {
  stop "$folder/pid" -9
  die "$*
Its last words:
$(tail -20 "$folder/log")"
}

if [[ -n ${CASSANDRA_OWNER:-} ]]; then
  nohup setsid bash -c '
    while kill -0 "$0" 2>/dev/null && kill -0 "$1" 2>/dev/null; do sleep 0.5; done
    kill -9 "$1" 2>/dev/null' "$CASSANDRA_OWNER" "$pid" >/dev/null 2>&1 </dev/null &
fi

# It answers when an OPTIONS frame (protocol 4, opcode 5) is answered by SUPPORTED (opcode 6). By TLS nobody here can
# ask; it listens when it is ready.
answers() {
  [[ -z ${CASSANDRA_TLS:-} ]] || return 0
  exec 3<>"/dev/tcp/$address/$port" || return 1
  printf '\x04\x00\x00\x00\x05\x00\x00\x00\x00' >&3
  local head
  head=$(timeout 5 head -c 5 <&3 | od -An -tx1 | tr -d ' \n')
  exec 3>&- 3<&-
  [[ ${head:8:2} == 06 ]]
}

deadline=$((SECONDS + ${CASSANDRA_WAIT:-120}))
until listens "$folder/pid" "$address" "$port" && answers 2>/dev/null; do
  is_running "$folder/pid" || fail 'Cassandra has ended.'
  ((SECONDS < deadline)) || fail 'Cassandra does not answer.'
  sleep 0.1
done
printf 'Cassandra %s answers on %s:%s\n' "$version" "$address" "$port"
