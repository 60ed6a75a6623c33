#!/usr/bin/env bash
# TVM compiles for a processor that it does not know, as for the oldest of the family, and calls that a success.
#
# A target's `mcpu` and `mattr` come from a file that a person writes. One would guess that a wrong letter (znver6 for
# znver5, +avx512foo) is an error, as it is for a C compiler, or at least something that the caller can see.
#
# What happens (2026-11-30): the target is made and code is generated. An unknown processor is taken for `generic`,
# without FMA and with vectors of 128 bits; an unknown feature is left out. Each prints a raw line to standard error and
# raises nothing; the object that is returned does not say so. A processor that has no 64-bit mode counts as valid for
# x86_64.
#
# Why it matters to who compiles ConvNets: the library is right and ten times slower. effgen asks LLVM's own list before
# and refuses, with the nearest names (effgen/machines/llvm.py).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/python -m pip install --quiet apache-tvm==0.27.0.post1 apache-tvm-ffi==0.1.14.post1 numpy==2.4.6 psutil
cat > ask.py <<'PY'
import sys

import tvm

triple, cpu, *features = sys.argv[1:]
ask = tvm.get_global_func
stated = {"kind": "llvm", "mtriple": triple, "mcpu": cpu, **({"mattr": features} if features else {})}
target = tvm.target.Target(stated)
found = {str(name) for name in ask("target.llvm_get_cpu_features")(target)}
print("valid", bool(ask("target.llvm_is_valid_cpu")(cpu, triple)), "fma", "fma" in found)
PY
check() { # arguments of ask.py, then what it says
    local wanted=${!#} found
    found=$(env/bin/python ask.py "${@:1:$#-1}" 2> said.txt)
    echo "${*:1:$#-1}: $found; standard error: $(sed 's/.*\] //' said.txt | sort -u | head -1)"
    [ "$found" = "$wanted" ] || { echo "that has changed: was $wanted"; exit 1; }
}
env/bin/python -c 'import tvm; print("tvm", tvm.__version__)'
check x86_64-linux-gnu znver5 "valid True fma True"
check x86_64-linux-gnu znver6 "valid False fma False"
check x86_64-linux-gnu k6 "valid True fma False"
check x86_64-linux-gnu znver4 +avx512foo "valid True fma True"
