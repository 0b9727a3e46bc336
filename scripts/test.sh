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

packages=(g++ cmake ninja-build ccache pkg-config libxsimd-dev doctest-dev nlohmann-json3-dev libcli11-dev
          libturbojpeg0-dev libpng-dev zlib1g-dev)
if ! command -v clang++ >/dev/null && ! command -v clang++-14 >/dev/null; then packages+=(clang-14); fi
install_missing() {
  command -v dpkg-query >/dev/null || return 0  # another distribution: CMake names what is missing
  local missing=() package
  for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then return 0; fi
  echo "installing: ${missing[*]}"
  local as_root=()
  if ((EUID != 0)); then as_root=(sudo); fi
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# As many jobs as there are cores, but 2 GB of memory for each.
count_jobs() {
  local cores memory
  cores=$(nproc)
  memory=$(awk '/MemAvailable/ { print int($2 / 2000000) }' /proc/meminfo)
  ((memory < 1)) && memory=1
  echo $((cores < memory ? cores : memory))
}

install_missing
jobs=${JOBS:-$(count_jobs)}
build=${BUILD_ROOT:-build}/$kind
options=(-DCMAKE_BUILD_TYPE=Release -DDVLA_WERROR=ON)
case $kind in
  clang) options+=(-DCMAKE_CXX_COMPILER="$(command -v clang++ || command -v clang++-14)") ;;
  sanitize)
    options=(-DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1\ -g1 -DDVLA_SANITIZE=address,undefined -DDVLA_BUILD_EXAMPLES=OFF -DDVLA_INSTALL=OFF) ;;
esac
if command -v ccache >/dev/null; then options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi

SECONDS=0
cmake -S . -B "$build" -G Ninja "${options[@]}"
cmake --build "$build" -j "$jobs"
echo "$kind: built in $SECONDS s with $jobs jobs"
# A sanitized build is for what the programs do; what compilers say is tested in the other builds.
if [[ $kind == sanitize ]]; then set -- -E '^(header alone|must not compile|package):' "$@"; fi
exec ctest --test-dir "$build" -j "$jobs" --output-on-failure --no-tests=error "$@"
