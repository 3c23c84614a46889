#!/bin/sh
# A new version of a model: quantized as the last one was, held against the limits, and a page of what happened.
#   check.sh NEW_MODEL MANIFEST OUT_DIR [FILES_DIR]
# FILES_DIR (default: this script's folder) has gates.json, own.txt (text that no calibration has seen) and what the manifest was made
# with. Exit code: 0 the candidate keeps to every limit, 1 it does not, else what tsubu says (docs/json.md).
set -eu
new=$1 manifest=$2 out=$3 files=${4:-$(dirname "$0")}
tsubu=${TSUBU:-tsubu} status=0
mkdir -p "$out"
"$tsubu" quantize "$new" -o "$out/candidate.gguf" --recipe "$manifest" > "$out/quantize.txt"
"$tsubu" certify "$new" "$out/candidate.gguf" --text "$files/own.txt" --spec "$files/gates.json" ${CERTIFY_OPTIONS:-} -o "$out/run.json" > "$out/certify.txt" || status=$?
"$tsubu" report "$out/run.json" -o "$out/report.html"
cat "$out/quantize.txt" "$out/certify.txt"
exit "$status"
