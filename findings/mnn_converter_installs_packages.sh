#!/usr/bin/env bash
# Importing MNN's converter for Python runs `pip install -U` of a logging client, by whichever pip comes first on the PATH.
#
# One would guess that `from MNN.tools import mnnconvert` loads a converter: the wheel holds all of it, and declares what it
# needs.
#
# What happens (2026-11-30, MNN 3.6.1): the package does not declare aliyun-log-python-sdk, and where that cannot be imported
# runs `pip install -U aliyun-log-python-sdk` in a shell, twice. The pip on the PATH need not be that of the Python which
# imports: started by its path, an environment's Python changes the packages of another one (a protobuf of another
# version came with it). With the client there, its command tells a server what it has converted. The extension module
# behind it, `_tools`, converts without any of that.
#
# Why it matters to who compiles ConvNets: a race with MNN begins with that import in most recipes. effgen calls `_tools`
# (effgen/judge/converted.py).
#
# Here a stand-in for pip, first on the PATH, writes down what it is asked for and installs nothing.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/python -m pip install --quiet MNN==3.6.1 numpy==2.4.6
mkdir first
cat > first/pip <<'SH'
#!/bin/sh
echo "pip $*" >> "$CALLS"
exit 1
SH
chmod +x first/pip
export CALLS="$work/calls"

asked() { # what pip was asked for while this was imported
  : > "$CALLS"
  PATH="$work/first:$PATH" env/bin/python -c "$1" > log 2>&1 || { tail -n 5 log; exit 1; }
  cat "$CALLS"
}

env/bin/python -m pip show MNN 2>/dev/null | grep -E '^(Version|Requires)'
echo "import MNN, _tools:"
asked 'import MNN, _tools; print(_tools.mnnconvert)'
[ -s "$CALLS" ] && { echo "these ask for packages now, too"; exit 1; }
echo "from MNN.tools import mnnconvert:"
asked 'from MNN.tools import mnnconvert'
grep -q '^pip install -U aliyun-log-python-sdk$' "$CALLS" || { echo "no pip is run any more"; exit 1; }
