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
exec "$node" --disable-warning=ExperimentalWarning "$entry" "$@"
