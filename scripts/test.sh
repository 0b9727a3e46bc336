#!/usr/bin/env bash
# Builds and tests the project on a fresh Debian or Ubuntu. Installs with apt only what is missing.
#   scripts/test.sh              g++, warnings are errors
#   scripts/test.sh --clang      the same with clang
#   scripts/test.sh --sanitize   with AddressSanitizer and UndefinedBehaviorSanitizer
# Further arguments go to ctest, e.g. scripts/test.sh -R golden. BUILD_ROOT (default build/) and JOBS may be set.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=gcc
case "${1:-}" in
  --clang) kind=clang; shift ;;
  --sanitize) kind=sanitize; shift ;;
  --help | -h) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac

source scripts/setup.sh
packages=("${build_packages[@]}")
if ! command -v clang++ >/dev/null && ! command -v clang++-14 >/dev/null; then packages+=(clang-14); fi
install_missing "${packages[@]}"
jobs=${JOBS:-$(count_jobs)}
build=${BUILD_ROOT:-build}/$kind
options=(-DCMAKE_BUILD_TYPE=Release -DDVLA_WERROR=ON)
# Where CUDA is installed its kernels are compiled in any case; whole models for it only where a card can run them.
if ! nvidia-smi -L >/dev/null 2>&1; then options+=(-DDVLA_CUDA_PROGRAMS=OFF); fi
case $kind in
  clang) options+=(-DDVLA_CUDA=OFF -DCMAKE_CXX_COMPILER="$(command -v clang++ || command -v clang++-14)") ;;
  sanitize)
    options=(-DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1\ -g1 -DDVLA_CUDA=OFF -DDVLA_SANITIZE=address,undefined -DDVLA_BUILD_EXAMPLES=OFF -DDVLA_INSTALL=OFF) ;;
esac
if command -v ccache >/dev/null; then options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi

SECONDS=0
cmake -S . -B "$build" -G Ninja "${options[@]}"
cmake --build "$build" -j "$jobs"
echo "$kind: built in $SECONDS s with $jobs jobs"
# A sanitized build is for what the programs do; what compilers say is tested in the other builds.
if [[ $kind == sanitize ]]; then set -- -E '^(header alone|must not compile|package):' "$@"; fi
exec ctest --test-dir "$build" -j "$jobs" --output-on-failure --no-tests=error "$@"
