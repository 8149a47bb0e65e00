#!/usr/bin/env bash
# Looks for an input that breaks a target: fuzz/run.sh TARGET [SECONDS]. Three minutes, unless told otherwise.
#
# Needs cargo-fuzz (`cargo install --locked cargo-fuzz`). What it finds is left in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${1:?usage: fuzz/run.sh TARGET [SECONDS]}
arguments=("-max_total_time=${2:-180}")
case $target in
  parser) arguments+=(-dict=fuzz/parser.dict) ;;
  # Its inputs are stories: short ones tell little.
  index) arguments+=(-len_control=0 -max_len=6000) ;;
  # It writes to a store in the temporary folder, in memory ten times as fast.
  record) export TMPDIR=/dev/shm ;;
esac

# What was found before, and the seeds that come with the target.
inputs=("fuzz/corpus/$target")
if [[ -d fuzz/seeds/$target ]]; then
  inputs+=("fuzz/seeds/$target")
fi
mkdir -p "${inputs[0]}"

# Without the sanitiser: the code is safe Rust, and so stable Rust will do.
exec cargo fuzz run -s none "$target" "${inputs[@]}" -- "${arguments[@]}"
