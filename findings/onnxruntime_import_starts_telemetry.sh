#!/usr/bin/env bash
# `import onnxruntime` on Linux starts a telemetry client: a thread, an identifier of the device, a database of events.
#
# One would guess that importing a CPU build for Linux does nothing but load code; its sessions are what costs something.
#
# What happens (2026-11-30): importing onnxruntime 1.32.0 alone starts a thread, writes `.ses` (a time and a UUID) into
# TMPDIR, and `deviceid` and the SQLite database `onnxruntime.db` below ~/.cache/Microsoft/DeveloperTools/.onnxruntime.
# `onnxruntime.disable_telemetry_events()`, which can only be called after the import, comes too late for all of them. With
# ORT_DISABLE_TELEMETRY=1 in the environment before the import there is no thread and no file.
#
# Why it matters to who compiles ConvNets: a tool that judges its compiled networks by onnxruntime, or races it, leaves
# files in its users' folders and has one more thread beside what it times. effgen sets the variable before it imports
# onnxruntime, unless the user has set it (effgen/judge/onnx_runtime.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/python -m pip install --quiet onnxruntime==1.32.0 numpy==2.4.6
cat > look.py <<'PY'
import os
import sys
import time


def threads():
    return len(os.listdir("/proc/self/task"))


import numpy  # its own threads are there before

before = threads()
import onnxruntime

if "late" in sys.argv:
    onnxruntime.disable_telemetry_events()
started = threads() - before
time.sleep(1)
print(onnxruntime.__version__, "threads started by the import:", started)
PY
unset ORT_DISABLE_TELEMETRY XDG_CACHE_HOME

look() { # what an import leaves behind: NAME, then words of look.py or variables
  mkdir -p "$1/home" "$1/tmp"
  env HOME="$PWD/$1/home" TMPDIR="$PWD/$1/tmp" ${3:+"$3"} env/bin/python look.py $2
  (cd "$1" && find . -type f | sed 's/-wal$\|-shm$//' | sort -u)
}

echo "as it is:" && look plain ""
echo "switched off after the import:" && look late late
echo "ORT_DISABLE_TELEMETRY=1:" && look off "" ORT_DISABLE_TELEMETRY=1
for name in plain late; do
  for file in tmp/.ses home/.cache/Microsoft/DeveloperTools/.onnxruntime/onnxruntime.db; do
    [ -s "$name/$file" ] || { echo "$name: no $file any more"; exit 1; }
  done
done
[ -z "$(find off -type f)" ] || { echo "the variable is not obeyed any more"; exit 1; }
