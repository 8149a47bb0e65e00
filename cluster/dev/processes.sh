# shellcheck shell=bash
# What the scripts beside this one share: processes in the background, each known by a file with its id.

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# began PID: when that process began, in ticks since the machine did. Fails if it has ended.
began() {
  local status fields
  { status=$(<"/proc/$1/stat"); } 2>/dev/null || return
  # What comes before is its name, in parentheses, which may hold anything.
  read -ra fields <<<"${status##*) }"
  [[ ${fields[0]} != Z ]] && printf '%s\n' "${fields[19]}"
}

# note FILE PID: writes down a process. Its id alone may be another's one day, so when it began stands beside it.
note() {
  began "$2" >"$1.began" || true
  printf '%s\n' "$2" >"$1"
}

# is_running FILE: whether the process that was written down still runs
is_running() {
  [[ -s $1 && -s $1.began && $(began "$(<"$1")") == "$(<"$1.began")" ]]
}

# stop FILE [SIGNAL]: asks it to end, and waits until it has
stop() {
  local pid
  if is_running "$1"; then
    pid=$(<"$1")
    kill "${2:--TERM}" "$pid" 2>/dev/null || true
    for _ in {1..300}; do
      is_running "$1" || break
      sleep 0.1
    done
    if is_running "$1"; then
      kill -9 "$pid" 2>/dev/null || true
    fi
  fi
  rm -f "$1" "$1.began"
}

# sockets ADDRESS PORT: those that listen where nobody else can listen on ADDRESS:PORT then, a line each
sockets() {
  local a b c d address port
  IFS=. read -r a b c d <<<"$1"
  # As the kernel writes it. Zeros are all addresses; a socket for IPv6 can have those of IPv4 too.
  printf -v address '%02X%02X%02X%02X' "$d" "$c" "$b" "$a"
  printf -v port '%04X' "$2"
  sed -nE "s/^ *[0-9]+: (0{8}|0{32}|(0{16}FFFF0000)?$address):$port [0-9A-F:]+ 0A( +[^ ]+){5} +([0-9]+) .*/\4/p" \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null
}

# listens FILE ADDRESS PORT: whether the process that was written down has that port, and has it alone
listens() {
  local socket found=1
  is_running "$1" || return
  while read -r socket; do
    find "/proc/$(<"$1")/fd" -lname "socket:\[$socket\]" 2>/dev/null | grep -q . || return
    found=0
  done < <(sockets "$2" "$3")
  return "$found"
}

# holders ADDRESS PORT: says which processes have that port
holders() {
  local socket pids pid
  while read -r socket; do
    pids=$(find /proc/[0-9]*/fd -lname "socket:\[$socket\]" 2>/dev/null | cut -d / -f 3 | sort -un)
    if [[ -z $pids ]]; then
      printf '%s:%s is taken by a process of another user\n' "$1" "$2"
    fi
    for pid in $pids; do
      printf '%s:%s is taken by %s (process %s, in %s)\n' "$1" "$2" "$(<"/proc/$pid/comm")" "$pid" \
        "$(readlink "/proc/$pid/cwd")"
    done
  done < <(sockets "$1" "$2")
}

# ask_for ADDRESS:PORT…: fails, and says who is there, unless all are free. What is just ending is waited for.
ask_for() {
  local place taken
  for _ in {1..10}; do
    taken=()
    for place in "$@"; do
      [[ -z $(sockets "${place%:*}" "${place##*:}") ]] || taken+=("$place")
    done
    ((${#taken[@]} > 0)) || return 0
    sleep 0.2
  done
  for place in "${taken[@]}"; do
    holders "${place%:*}" "${place##*:}" >&2
  done
  return 1
}
