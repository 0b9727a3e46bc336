#!/usr/bin/env bash
# Runs the CUDA tests under compute-sanitizer: memcheck, racecheck, synccheck and initcheck, a line for each test and tool, of
# racecheck, the slowest, for each case, on small shapes (DVLA_TEST_SMALL=1). Exits with 1 where a tool found something, a test
# failed or did not end in time.
#   scripts/sanitize_cuda.sh           builds the tests first, with line numbers in what is reported
#   scripts/sanitize_cuda.sh FOLDER    takes test_cuda and, where it is there, test_cuda_models from a folder
# JOBS (default: a process for each core, 12 at most) run side by side on the card; TOOLS (default: all four), TESTS (a pattern
# of names, default *) and TIMEOUT (seconds a test and tool, default 300) may be set. What the tools say of a test stays in OUT (default
# build/sanitize_cuda/reports).
#
# Left out: the test whose kernel traps, and the one that wants to see launches return early, which some tools make them not do.
# Of the whole models a few steps are run. initcheck looks at the library's kernels alone: cuBLASLt's read workspace that nothing
# has written, by design; but then what they write counts as never written, and tests of products have findings
# (bench/results/cuda_checks.md). Poison counts as written; what kernels read of the arena before they wrote it is what initcheck finds.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0; fi

sanitizer=$(command -v compute-sanitizer || true)
for place in "${CUDA_HOME:-/usr/local/cuda}"/{bin,compute-sanitizer}/compute-sanitizer; do
  if [[ -z $sanitizer && -x $place ]]; then sanitizer=$place; fi
done
if [[ -z $sanitizer ]]; then echo "sanitize_cuda: compute-sanitizer was not found; install CUDA's cuda-sanitizer package" >&2; exit 2; fi

folder=${1:-}
if [[ -z $folder ]]; then
  # shellcheck source=scripts/setup.sh
  source scripts/setup.sh
  build=build/sanitize_cuda
  cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DDVLA_CUDA=ON -DCMAKE_CUDA_FLAGS=-lineinfo -DDVLA_BUILD_EXAMPLES=OFF -DDVLA_INSTALL=OFF
  cmake --build "$build" -j "$(count_jobs)" --target test_cuda test_cuda_models
  folder=$build/tests/cuda
fi
out=${OUT:-build/sanitize_cuda/reports}
mkdir -p "$out"
jobs=${JOBS:-$(($(nproc) < 12 ? $(nproc) : 12))}

# A kernel filter as this version of the tool spells it.
filter=--filter
if [[ $("$sanitizer" --help 2>&1 || true) == *--kernel-name\ * ]]; then filter=--kernel-name; fi

# check TOOL PROGRAM TEST FILTER NUMBER: one line; of the NUMBER-th of the cases alone, or of all with 0.
# shellcheck disable=SC2317  # called by xargs
check() {
  local tool=$1 program=$2 test=$3 cases=$4 number=$5 status=0 verdict options=() only=()
  if ((number > 0)); then only=("--first=$number" "--last=$number") test+=-$number; fi
  local report=$OUT_FOLDER/$tool-$(basename "$program")-$test.txt began=$SECONDS
  if [[ $tool == initcheck ]]; then options=("$FILTER" kns=dvla); fi
  DVLA_TEST_SMALL=1 timeout "${TIMEOUT:-300}" "$SANITIZER" --tool "$tool" --error-exitcode 99 --report-api-errors no --print-limit 20 \
    ${options[@]+"${options[@]}"} "$program" "--source-file=*/$3.cu" "--test-case=$cases" \
    "--test-case-exclude=$LEFT_OUT" ${only[@]+"${only[@]}"} >"$report" 2>&1 || status=$?
  case $status in
    0) verdict=ok ;;
    77) verdict="skipped: no CUDA device" ;;
    99) verdict="FINDINGS: $(sed -n 's/.*\(ERROR\|RACECHECK\) SUMMARY: //p' "$report" | tail -n 1); see $report" ;;
    124) verdict="NOT FINISHED in ${TIMEOUT:-300} s; see $report" ;;
    *) verdict="FAILED with $status; see $report" ;;
  esac
  if [[ $status == 0 ]] && ! grep -q 'test cases: *[1-9]' "$report"; then status=1 verdict="FAILED: no test ran; see $report"; fi
  printf '%-10s %-16s %-22s %4d s  %s\n' "$tool" "$(basename "$program")" "$test" $((SECONDS - began)) "$verdict"
  [[ $status == 0 || $status == 77 ]]
}
export -f check
export OUT_FOLDER=$out SANITIZER=$sanitizer FILTER=$filter LEFT_OUT='*that traps*,*before the card begins it'

# The numbers of a test's cases for a tool: 0 for all at once.
numbers_of() {
  local tool=$1 program=$2 test=$3 cases=$4 count=0
  if [[ $tool == racecheck ]]; then
    count=$(DVLA_TEST_SMALL=1 "$program" --count "--source-file=*/$test.cu" "--test-case=$cases" "--test-case-exclude=$LEFT_OUT" \
      </dev/null | sed -n 's/.*current filters: *\([0-9]*\).*/\1/p') || true
  fi
  if ((${count:-0} > 0)); then seq 1 "$count"; else echo 0; fi
}

# The slowest tool first, so that nothing long begins at the end.
list_jobs() {
  local tool source
  for tool in ${TOOLS:-racecheck initcheck memcheck synccheck}; do
    if [[ -x $folder/test_cuda_models ]]; then
      for source in pretraining_test episodes_test; do
        printf '%s\0' "$tool" "$folder/test_cuda_models" "$source" '*takes no device memory*'
      done
    fi
    for source in tests/cuda/*_test.cu; do
      printf '%s\0' "$tool" "$folder/test_cuda" "$(basename "$source" .cu)" '*'
    done
  done
}
wanted() {
  local tool program test cases number
  while IFS= read -r -d '' tool && IFS= read -r -d '' program && IFS= read -r -d '' test && IFS= read -r -d '' cases; do
    # shellcheck disable=SC2053  # a pattern
    if [[ $test != ${TESTS:-*} ]]; then continue; fi
    for number in $(numbers_of "$tool" "$program" "$test" "$cases"); do printf '%s\0' "$tool" "$program" "$test" "$cases" "$number"; done
  done
}

SECONDS=0
status=0
list_jobs | wanted | xargs -0 -n 5 -P "$jobs" bash -c 'check "$@"' check || status=1
echo "compute-sanitizer: $( ((status == 0)) && echo clean || echo "NOT clean") after $SECONDS s"
exit "$status"
