#!/usr/bin/env bash
# Measure a family and write its report: benchmarks/report.sh FOLDER PHI...
#
#     benchmarks/report.sh build/report 0 1 2 3 4 5 6 7
#     THREADS=1 benchmarks/report.sh build/report 1
#
# Bundles that are in FOLDER/bundles already are not compiled again, files in FOLDER/results that are there already not
# measured again, unless their bundle is newer: stopped, it goes on where it was. Results are named by their bundle:
# two of one name are an error. All of FOLDER/results is in FOLDER/report.html.
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

bundle_of() { # PHI
    echo "$folder/bundles/phi$1-batch$batch-threads$threads"
}

bundles=()
for phi in "$@"; do
    bundles+=("$(bundle_of "$phi")")
done
for bundle in ${BUNDLES:-}; do
    bundles+=("$bundle")
done
twice=$(for bundle in "${bundles[@]}"; do basename "$bundle"; done | sort | uniq -d | head -1)
if [ -n "$twice" ]; then
    echo "error: two bundles are named $twice, and their results would be one file; rename one" >&2
    exit 1
fi

for phi in "$@"; do
    bundle=$(bundle_of "$phi")
    [ -e "$bundle" ] || "$EFFGEN" compile --phi "$phi" --batch "$batch" --threads "$threads" -o "$bundle" -q >/dev/null
done

measured() { # FILE BUNDLE: whether FILE is there and not older than BUNDLE
    [ -e "$1" ] && ! [ "$2/manifest.json" -nt "$1" ]
}

for bundle in "${bundles[@]}"; do
    name=$(basename "$bundle")-run$threads
    results=$folder/results/$name.json
    measured "$results" "$bundle" || "$EFFGEN" bench "$bundle" --peers "$peers" "${plan[@]}" -q --json "$results" >/dev/null
    layers=$folder/results/$name-layers.json
    measured "$layers" "$bundle" || "$EFFGEN" bench "$bundle" --layers "${plan[@]}" -q --json "$layers" >/dev/null
done
"$EFFGEN" compare "$folder/results" -o "$folder/report.html" --csv "$folder/report.csv" --markdown "$folder/report.md"
echo "$folder/report.html"
