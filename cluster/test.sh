#!/usr/bin/env bash
# Runs all tests of Rookery. Installs what they need and is missing, where apt is the way to do so.
#
#   cluster/test.sh [ARGUMENT…]    arguments go to `cargo test`, such as --test node nip09
#   cluster/test.sh --quick        those that need no services and little time. Installs nothing
#   cluster/test.sh --coverage     all, and which lines they reach: a page in target/llvm-cov, and a table by folder
#   cluster/test.sh --long         those that take too long for every day, and only those: half an hour or more
#
# Needs Rust (https://rustup.rs). Made for Debian 12 or later and Ubuntu 24.04 or later.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# command | package of Debian and Ubuntu | what needs it
tools=(
  'cc|build-essential|the build'
  'kill|procps|tests that stop a relay'
  'script|bsdutils|tests of what is shown on a terminal'
  'node|nodejs|tests with nostr-tools, of the page, and of the files for deployment'
  'npm|npm|tests with nostr-tools, of the page, and of the files for deployment'
  'chromium|chromium|tests of the page'
  'redis-server|redis-server|tests of several nodes'
  'prometheus|prometheus|tests of metrics and alerts'
  'haproxy|haproxy|tests of several nodes'
  'nginx|nginx-light|tests of the files for deployment'
  'curl|curl|tests of several nodes'
  'faketime|faketime|tests of nodes whose clocks differ'
  'strace|strace|tests that watch the system calls of a relay'
  'mount|mount|tests that fill a disk'
  'unshare|util-linux|tests that fill a disk'
  'java|openjdk-17-jre-headless|tests of the cluster store (unless ROOKERY_TEST_CQL names a server)'
  'mvn|maven|tests of the cluster store (unless ROOKERY_TEST_CQL names a server)'
)

say() { printf '%s\n' "$*" >&2; }

# Prints the lines of `tools` whose command is not there. `type -P`, because `kill` is a builtin too.
missing() {
  local tool
  for tool in "${tools[@]}"; do
    type -P "${tool%%|*}" >/dev/null || printf '%s\n' "$tool"
  done
}

as_root() {
  if ((EUID == 0)); then
    "$@"
  else
    sudo "$@"
  fi
}

install() {
  local packages
  mapfile -t packages < <(cut -d '|' -f 2 <<<"$1" | sort -u)
  if ! type -P apt-get >/dev/null; then
    say 'There is no apt here, so nothing is installed.'
  elif ((EUID != 0)) && ! type -P sudo >/dev/null; then
    say "Neither root nor sudo, so nothing is installed. As root: apt-get install ${packages[*]}"
  else
    say "Installing ${packages[*]}"
    # Lists that are a little old do as well; what is not found is said below.
    as_root apt-get update -qq || say 'apt-get update failed; going on with the lists there are'
    as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install -y -qq --no-install-recommends "${packages[@]}" >&2 || say 'apt-get install failed'
  fi
}

# Go is not installed here, because that of Debian 12 is too old.
has_go() {
  (cd cluster/dev/jaeger && go version) >/dev/null 2>&1
}

# Says what is missing, and what does not run for it.
report() {
  local command package tests
  while IFS='|' read -r command package tests; do
    say "MISSING: $command (package $package): without it these do not run: $tests"
  done <<<"$1"
}

if ! type -P cargo >/dev/null; then
  say 'Rust is missing. Install it from https://rustup.rs, then run this again.'
  exit 1
fi

# Each test that starts a relay, or connects to one, notes how long it took.
times=$PWD/target/tmp/test-times
mkdir -p "${times%/*}"
: >"$times"
export ROOKERY_TEST_TIMES=$times
# The programs of tests share a CQL server. The first that needs it starts it; it ends with this process, whatever ends
# that.
export ROOKERY_TEST_RUN=$$

# Prints which tests took longest.
slowest() {
  if [[ -s $times ]]; then
    say 'The longest tests, in seconds:'
    # Not `head`, which closes the pipe on `sort`: the script would end of that, and with that status.
    sort --reverse --numeric-sort "$times" | sed --quiet 1,20p >&2
  fi
}

# Tests open many sockets. Where the limit may not be raised, it stays.
ulimit -Sn "$(ulimit -Hn)" || true

if [[ ${1:-} == --quick ]]; then
  shift
  type -P cc >/dev/null || {
    say 'A C compiler is missing (Debian and Ubuntu: build-essential), without which nothing can be built.'
    exit 1
  }
  type -P kill >/dev/null || say 'MISSING: kill (package procps): tests that stop a relay will fail'
  status=0
  cargo test --locked --no-fail-fast --lib --bins --test node "$@" || status=$?
  # Without those that start a CQL server.
  cargo test --locked --no-fail-fast --test store -- --skip cql --skip cluster:: || status=$?
  slowest
  say 'Not run: tests/cluster, tests/system, and the cluster store in tests/store. cluster/test.sh runs them too.'
  exit "$status"
fi

lacking=$(missing)
if [[ -n $lacking ]]; then
  install "$lacking"
  hash -r
  lacking=$(missing)
fi
if [[ -n $lacking ]]; then
  report "$lacking"
  if ! type -P cc >/dev/null; then
    say 'Nothing can be built without a C compiler.'
    exit 1
  fi
fi

if type -P node >/dev/null && type -P npm >/dev/null; then
  # Debian 12 and Ubuntu 24.04 have Node 18, which hides the Web Crypto API behind a flag.
  node_major=$(node --print 'process.versions.node.split(".")[0]')
  if ((node_major < 18)); then
    say "Node $node_major is too old for nostr-tools; 18 or later is needed"
  elif ((node_major == 18)); then
    export NODE_OPTIONS="${NODE_OPTIONS:-} --experimental-global-webcrypto"
  fi
  for lock in tests/*/package-lock.json web/package-lock.json; do
    folder=${lock%/*}
    if [[ ! $folder/node_modules/.package-lock.json -nt $lock ]]; then
      say "Installing what $folder needs"
      (cd "$folder" && npm ci --no-audit --no-fund --loglevel=error >&2)
    fi
  done
fi

# Prints how much of each folder of src/ the tests reach, from the report of cargo-llvm-cov.
by_folder() {
  awk '
    $1 ~ /\.rs$/ {
      folder = $1
      if (!sub(/\/[^\/]*$/, "", folder)) folder = "."
      lines[folder] += $8; missed[folder] += $9
      lines["all"] += $8; missed["all"] += $9
    }
    END {
      for (folder in lines) if (lines[folder] > 0)
        printf "%5.1f %% of %6d lines  %s\n", 100 - 100 * missed[folder] / lines[folder], lines[folder], folder
    }' | sort --key 6
}

status=0
if [[ ${1:-} == --coverage ]]; then
  shift
  if ! cargo llvm-cov --version >/dev/null 2>&1; then
    say 'cargo-llvm-cov is missing: rustup component add llvm-tools && cargo install --locked cargo-llvm-cov'
    exit 1
  fi
  if (($# == 0)); then
    set -- --lib --bins --tests
  fi
  # Most relays of the tests end by `kill -9`. They count all the same: in a file that is mapped into their memory, and
  # into that of all others of the same binary.
  export RUSTFLAGS="${RUSTFLAGS:-} -C llvm-args=-runtime-counter-relocation"
  export LLVM_PROFILE_FILE_NAME='rookery-%m%c.profraw'
  cargo llvm-cov --locked --no-fail-fast --no-report "$@" || status=$?
  pages=${CARGO_TARGET_DIR:-target}/llvm-cov
  cargo llvm-cov report --html --output-dir "$pages"
  cargo llvm-cov report | by_folder | tee "$pages/folders.txt"
  say "The lines: $pages/html/index.html"
elif [[ ${1:-} == --long ]]; then
  shift
  # Nodes, Redis and CQL servers that fail at any moment: ten minutes with one server of each, ten with three.
  ROOKERY_STRESS_SECONDS=${ROOKERY_STRESS_SECONDS:-600} \
    cargo test --locked --no-fail-fast --test cluster "$@" -- stress:: --nocapture || status=$?
  # Random histories in every store.
  PROPTEST_CASES=${PROPTEST_CASES:-500} cargo test --locked --no-fail-fast --test store "$@" -- property || status=$?
  # Whatever else says of itself that it is not for every day.
  cargo test --locked --no-fail-fast --lib --bins --tests "$@" -- --ignored || status=$?
else
  # Benchmarks are no tests, and the documentation of the code has no examples to be tested.
  if (($# == 0)); then
    set -- --lib --bins --tests
  fi
  cargo test --locked --no-fail-fast "$@" || status=$?
fi
slowest
if [[ -n $lacking ]]; then
  report "$lacking"
fi
if ! has_go; then
  say 'MISSING: go (1.25 or later, https://go.dev/dl): without it these do not run: tests with a real Jaeger, and with a collector for Zipkin'
fi
exit "$status"
