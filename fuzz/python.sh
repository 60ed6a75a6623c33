#!/bin/sh
# The readers in Python, one after the other, FUZZ_SECONDS each (60). What is found lies in build/fuzz/KIND-*.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
seconds=${FUZZ_SECONDS:-60}
# libFuzzer ends a process without a word to Python: what it leaves behind goes with the next run.
rm -rf build/fuzz-files
mkdir -p build/fuzz build/fuzz-files
export TMPDIR="$PWD/build/fuzz-files"
kinds=${*:-$("$python" -c 'import sys; sys.path.insert(0, "fuzz"); from readers import KINDS; print(*KINDS)')}
for kind in $kinds; do
    echo "fuzz: $kind, $seconds s after its first inputs are made"
    "$python" fuzz/atheris_readers.py "$kind" "build/fuzz/$kind" -max_total_time="$seconds" -timeout=30 \
        -rss_limit_mb=4096 -max_len=65536 -artifact_prefix="build/fuzz/$kind-" -print_final_stats=1 -verbosity=0 \
        2> "build/fuzz/$kind.log" || { tail -n 40 "build/fuzz/$kind.log"; echo "fuzz: $kind: build/fuzz/$kind.log"; exit 1; }
    sed -n 's/^stat::number_of_executed_units: *\([0-9]*\)/fuzz:   \1 inputs/p' "build/fuzz/$kind.log"
done
echo "fuzz: no reader ended but by an answer or a line"
