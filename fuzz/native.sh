#!/bin/sh
# libFuzzer with the address and undefined behaviour sanitizers: effgen-run's readers and the C library's functions.
exec "${PYTHON:-python3}" "$(dirname "$0")/native/harnesses.py" --seconds "${FUZZ_SECONDS:-60}"
