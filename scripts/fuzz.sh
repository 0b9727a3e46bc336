#!/usr/bin/env bash
# Runs the fuzzers of tests/fuzz under libFuzzer with AddressSanitizer and UndefinedBehaviorSanitizer, one after the other, a line for
# each. Exits with 1 on a finding or where one was stopped. Builds them with clang first and installs clang-14 where it is missing.
#   scripts/fuzz.sh            ten minutes a target
#   scripts/fuzz.sh SECONDS    so many seconds a target
# JOBS targets (default 1) run side by side; TARGETS (a pattern of names, default *) and BUILD (default build/fuzz) may be set. A finding
# is an input that crashes, leaks, throws anything but dvla::error, breaks a promise, takes more than a second of processor time or more
# than 1 GB of memory. It stays in BUILD/findings; `fuzz_NAME FILE` of an ordinary build, or of this one, runs it again. What was
# reached is kept in BUILD/corpus for the next run.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0; fi
seconds=${1:-600}

# shellcheck source=scripts/setup.sh
source scripts/setup.sh
compiler=$(command -v clang++-14 || command -v clang++ || true)
packages=("${build_packages[@]}")
if [[ -z $compiler ]]; then packages+=(clang-14); fi
if [[ -z $compiler || $compiler == *-14 ]]; then packages+=(libclang-rt-14-dev); fi
install_missing "${packages[@]}"
build=${BUILD:-build/fuzz}
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-O1 -g1" -DDVLA_FUZZ=ON -DDVLA_CUDA=OFF \
  -DCMAKE_CXX_COMPILER="$(command -v clang++-14 || command -v clang++)" -DDVLA_BUILD_EXAMPLES=OFF -DDVLA_INSTALL=OFF >/dev/null
cmake --build "$build" -j "${BUILD_JOBS:-$(count_jobs)}" --target dvla_fuzzers
build=$(realpath "$build")
mkdir -p "$build/findings" "$build/corpus"

# Files that targets write lie in memory where there is such a file system, and go in any case.
TMPDIR=$(mktemp -d -p "$([[ -w /dev/shm ]] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" dvla_fuzz_XXXXXX)
export TMPDIR BUILD_FOLDER=$build FUZZ_SECONDS=$seconds
trap 'rm -rf "$TMPDIR"' EXIT

# fuzz NAME: one line.
# shellcheck disable=SC2317  # called by xargs
fuzz() {
  local name=$1 program=$BUILD_FOLDER/tests/fuzz/fuzz_$1 corpus=$BUILD_FOLDER/corpus/$1 log=$BUILD_FOLDER/findings/$1.log
  local status=0 verdict="no finding" began=$SECONDS TIMEFORMAT=%U
  mkdir -p "$corpus" "$BUILD_FOLDER/seeds/$name"
  "$program" --seeds="$BUILD_FOLDER/seeds/$name"
  # A busy machine gives fewer seconds of a processor than of the clock.
  { time "$program" "$corpus" "$BUILD_FOLDER/seeds/$name" -max_total_time="$FUZZ_SECONDS" -max_len=5000 -timeout=60 -rss_limit_mb=1024 \
    -malloc_limit_mb=512 -artifact_prefix="$BUILD_FOLDER/findings/$name-" -print_final_stats=1 >"$log" 2>&1; } 2>"$log.time" || status=$?
  case $status in
    0) ;;
    72 | 130 | 143) verdict="STOPPED before its time" ;;  # by a signal; libFuzzer makes 72 of it
    *) verdict="FINDING, see $log and $(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)" ;;
  esac
  printf '%-12s %5d s, %5.0f s of a core  %10s executions  %6s edges  %6s inputs kept  %s\n' \
    "$name" $((SECONDS - began)) "$(cat "$log.time")" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
    "$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)" \
    "$(find "$corpus" -type f | wc -l)" "$verdict"
  ((status == 0))
}
export -f fuzz

status=0
for program in "$build"/tests/fuzz/fuzz_*; do
  name=${program##*/fuzz_}
  # shellcheck disable=SC2053  # a pattern
  if [[ -x $program && $name == ${TARGETS:-*} ]]; then printf '%s\0' "$name"; fi
done | xargs -0 -n 1 -P "${JOBS:-1}" bash -c 'fuzz "$@"' fuzz || status=1
exit "$status"
