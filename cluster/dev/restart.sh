#!/usr/bin/env bash
# Starts one node of a cluster of cluster/dev/up.sh anew, whether it still runs or not. With a program that was built since,
# one node after the other is an upgrade.
#
#   cluster/dev/restart.sh NUMBER [FOLDER]     node 1, 2 or 3; ./rookery-cluster if not said
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
number=${1:-}
folder=${2:-rookery-cluster}
# shellcheck source=cluster/dev/processes.sh
. "$here/processes.sh"

[[ $number == [123] ]] || die 'Which node: cluster/dev/restart.sh 1, 2 or 3'
[[ -e $folder/settings ]] || die "there is no cluster in $folder; start one with: $here/up.sh $folder"
stop "$folder/node-$number.pid"
exec "$here/up.sh" "$folder"
