#!/bin/sh
# Starts the `fieldpost` command on the pinned Node runtime, whatever Node the host has.
# `exec` keeps the process id, so signals, `kill` and systemd's MAINPID reach the daemon itself.
set -eu

# Resolve the symlink that npm and npx put into a bin folder.
self=$0
while [ -L "$self" ]; do
  link=$(readlink "$self")
  case $link in
    /*) self=$link ;;
    *) self=$(dirname "$self")/$link ;;
  esac
done
root=$(CDPATH='' cd -- "$(dirname -- "$self")/.." && pwd -P)

case $(uname -m) in
  x86_64 | amd64) arch=x64 ;;
  aarch64 | arm64) arch=arm64 ;;
  *) arch=$(uname -m) ;;
esac

node=
for modules in "$root/node_modules" "$root/.."; do
  candidate=$modules/node-linux-$arch/bin/node
  # Trying it is the only sure way to tell a glibc runtime on a musl system.
  if [ -x "$candidate" ] && "$candidate" --version >/dev/null 2>&1; then
    node=$candidate
    break
  fi
done
if [ -z "$node" ]; then
  major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)
  if [ "$major" -lt 24 ]; then
    echo "fieldpost: the pinned Node 24 runtime (npm package node-linux-$arch) is not installed for this system, and the host's Node is not 24 or newer. Run 'npm ci' on 64-bit Linux with glibc, or install Node 24." >&2
    exit 2
  fi
  node=node
fi

if [ -f "$root/src/main.ts" ] && [ -d "$root/node_modules" ]; then
  entry=$root/src/main.ts
else
  entry=$root/dist/main.mjs
fi
# Memory of the daemon (boards have little). What starting took is given back by one collection afterwards, hence --expose-gc,
# the code of what ran only then too, compiled in whatever way (3 MB); one malloc arena, trimmed early, saves 3 MB, two helper
# threads of V8's in place of four 0.3 MB. Without its middle compiler, which takes 15 MB for the hundreds of functions that
# the first busy second makes warm: malloc never gives them back, and the last compiler comes soon enough. The heap may take a
# quarter of the RAM, 128 to 1024 MiB, unless NODE_OPTIONS says otherwise.
# Pauses: a young generation of up to 8 MB, which stays small at rest, lets less of what is on its way grow old; the old
# generation may grow by half before it is collected (were it by 100 %, 500 devices over AMQP would take 40 MB more); and
# marking it is left to the helper threads, which took the main thread 15 to 25 ms each time under load. Above all, nothing is
# made in the old generation because what was made in the same place lived long while a backlog waited: once the backlog is
# gone each such object is garbage at once, but until the next
# collection of the old generation it keeps alive whatever it refers to. So every message that came in grew old, and the old
# generation had to be collected every three seconds at 20 000 messages a second; now hardly ever.
heap=
case ${NODE_OPTIONS:-} in
  *max-old-space-size*) ;;
  *)
    ram_kib=$(sed -n 's/^MemTotal: *\([0-9]*\) kB$/\1/p' /proc/meminfo 2>/dev/null || true)
    heap_mib=$((${ram_kib:-2097152} / 4096))
    [ "$heap_mib" -ge 128 ] || heap_mib=128
    [ "$heap_mib" -le 1024 ] || heap_mib=1024
    heap=--max-old-space-size=$heap_mib
    ;;
esac
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-1}" MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-131072}"
# shellcheck disable=SC2086 # $heap is one word or none
exec "$node" --v8-pool-size=2 --bytecode-old-age=1 --flush-baseline-code --expose-gc --no-maglev $heap \
  --max-semi-space-size=8 --heap-growing-percent=50 --no-incremental-marking-task --no-allocation-site-pretenuring \
  --disable-warning=ExperimentalWarning "$entry" "$@"
