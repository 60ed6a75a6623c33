#!/usr/bin/env bash
# Measure a family and write its report: benchmarks/report.sh FOLDER PHI...
#
#     benchmarks/report.sh build/report 0 1 2 3 4 5 6 7
#     THREADS=1 benchmarks/report.sh build/report 1
#
# Bundles that are in FOLDER/bundles already are not compiled again, files in FOLDER/results that are there already not
# measured again: stopped, it goes on where it was. All of FOLDER/results is in FOLDER/report.html.
# THREADS (default: all), BATCH (1), PEERS (onnxruntime,openvino: beside PyTorch's three), ROUNDS (10), MIN_TIME (2, in
# seconds), BUNDLES (directories of other networks to measure too). Needs a quiet machine; says so where it is not.
set -euo pipefail

if [ $# -lt 1 ]; then
    sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
folder=$1
shift
threads=${THREADS:-$(nproc)} batch=${BATCH:-1} peers=${PEERS-onnxruntime,openvino}
plan=(--rounds "${ROUNDS:-10}" --min-time "${MIN_TIME:-2}" --threads "$threads")
if [ -z "${EFFGEN:-}" ]; then
    EFFGEN=$(dirname "$0")/../.venv/bin/effgen
    [ -x "$EFFGEN" ] || EFFGEN=effgen
fi
mkdir -p "$folder/bundles" "$folder/results"

bundles=()
for phi in "$@"; do
    bundle=$folder/bundles/phi$phi-batch$batch-threads$threads
    [ -e "$bundle" ] || "$EFFGEN" compile --phi "$phi" --batch "$batch" --threads "$threads" -o "$bundle" -q >/dev/null
    bundles+=("$bundle")
done
for bundle in "${bundles[@]}" ${BUNDLES:-}; do
    name=$(basename "$bundle")-run$threads
    results=$folder/results/$name.json
    [ -e "$results" ] || "$EFFGEN" bench "$bundle" --peers "$peers" "${plan[@]}" -q --json "$results" >/dev/null
    layers=$folder/results/$name-layers.json
    [ -e "$layers" ] || "$EFFGEN" bench "$bundle" --layers "${plan[@]}" -q --json "$layers" >/dev/null
done
"$EFFGEN" compare "$folder/results" -o "$folder/report.html" --csv "$folder/report.csv" --markdown "$folder/report.md"
echo "$folder/report.html"
