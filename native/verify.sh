#!/bin/sh
# Checks the files of this folder, then runs the bundle on its golden pair, compares the answer and times it.
# Options are effgen-run's: ./verify --threads 2 --runs 50
# EFFGEN_KEY=key.pub.pem ./verify: SHA256SUMS, which lists all files, must be signed by that key of Ed25519.
# EFFGEN_EMULATOR="qemu-aarch64-static -L /usr/aarch64-linux-gnu" ./verify runs it by that command, on another machine.
set -euf
export LC_ALL=C

# A name in a file of somebody else's may command the terminal.
fail() {
  printf 'verify: %s\n' "$*" | sed 's/[^ -~]/?/g' >&2
  exit 1
}

self=$(readlink -f -- "$0" 2>/dev/null) || self=$0  # it may be a link to the one in the folder
case $self in
*/*) here=${self%/*} ;;
*) here=. ;;
esac
here=$(CDPATH='' cd -- "${here:-/}" && pwd) || fail "$0: its folder is not found"

# All files are those of SHA256SUMS, and in bundle/ and runtime/, from where files are loaded, there are no others.
check_files() (
  case ${EFFGEN_KEY:-} in
  '' | /*) ;;
  *) EFFGEN_KEY=$PWD/$EFFGEN_KEY ;;
  esac
  again='nothing was run; unpack the archive again'
  cd -- "$here"
  command -v sha256sum >/dev/null || fail 'sha256sum: not found: it checks the files; install coreutils or busybox'
  for folder in bundle runtime; do
    if [ -h "$folder" ] || [ ! -d "$folder" ]; then
      fail "$folder: no such folder; $again"
    fi
  done
  [ -s SHA256SUMS ] || fail "SHA256SUMS: missing or empty; $again"
  if grep -Evq '^[0-9a-f]{64}  [A-Za-z0-9_][A-Za-z0-9_./+-]*$' SHA256SUMS; then
    fail "SHA256SUMS: damaged; $again"
  fi
  listed=$(sed 's/^[0-9a-f]*  //' SHA256SUMS)
  for name in pack.json runtime/effgen-run; do
    printf '%s\n' "$listed" | grep -Fqx "$name" || fail "SHA256SUMS: does not list $name; $again"
  done
  surplus=$(find bundle runtime ! -type d | grep -Fvx "$listed" | head -n 1) || :
  [ -z "$surplus" ] || fail "$surplus: not listed in SHA256SUMS; remove it; nothing was run"
  odd=$(find bundle runtime ! -type d ! -type f | head -n 1)
  [ -z "$odd" ] || fail "$odd: is a link or a device, expected a file; $again"
  key=${EFFGEN_KEY:-}
  if [ -n "$key" ]; then
    command -v openssl >/dev/null || fail 'EFFGEN_KEY: openssl: not found: it checks the signature; install openssl 3'
    [ -f SHA256SUMS.sig ] || fail "SHA256SUMS.sig: missing: the archive is not signed; nothing was run"
    openssl pkeyutl -verify -pubin -inkey "$key" -rawin -in SHA256SUMS -sigfile SHA256SUMS.sig >/dev/null 2>&1 ||
      fail "SHA256SUMS.sig: not made by the key of $key (EFFGEN_KEY), or openssl cannot read that; nothing was run"
  fi
  if ! said=$(sha256sum -c SHA256SUMS 2>&1); then
    name=$(printf '%s\n' "$said" | sed -n 's/: FAILED.*//p' | head -n 1)
    fail "${name:-SHA256SUMS}: changed, damaged or missing: SHA256SUMS says otherwise; $again"
  fi
)

check_files
machine=$(sed -n 's/.*"architecture": "\([A-Za-z0-9_]*\)".*/\1/p' "$here/pack.json")
emulator=${EFFGEN_EMULATOR:-}
if [ -n "$emulator" ]; then
  command -v "${emulator%% *}" >/dev/null || fail "EFFGEN_EMULATOR: ${emulator%% *}: not found"
  timing='--runs 1 --min-time 0'
  for word; do
    [ "$word" != --input ] || timing=
  done
  # shellcheck disable=SC2086  # no words, or several
  set -- --skip-features $timing "$@"
elif [ "$(uname -m)" != "$machine" ]; then
  fail "made for $machine, this machine is $(uname -m): copy it to one of $machine, or set EFFGEN_EMULATOR (README.txt)"
elif [ ! -x "$here/runtime/effgen-run" ]; then
  fail "runtime/effgen-run: not executable; run chmod +x on it"
fi

# The libraries that were checked come before others of their names.
export LD_LIBRARY_PATH="$here/runtime${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
status=0
$emulator "$here/runtime/effgen-run" "$here/bundle" "$@" || status=$?
case $status in
126 | 127) fail "runtime/effgen-run: does not start here (status $status); README.txt says what it needs" ;;
esac
exit $status
