#!/usr/bin/env bash
# Registers, shared memory and spills of the CUDA kernels, as a table in Markdown; needs nvcc (NVCC may name it), no card. Fails where
# a kernel on the way of a training step spills. Compiles bench/cuda/kernels/ for each architecture given (default: 80 90a).
#   scripts/measure_kernels.sh [ARCHITECTURE...] > bench/results/cuda_registers.md
set -euo pipefail
cd "$(dirname "$0")/.."
architectures=("${@:-80}")
if (($# == 0)); then architectures=(80 90a); fi
nvcc=${NVCC:-nvcc}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "# Registers, shared memory and spills of the CUDA kernels"
echo
echo "Printed by scripts/measure_kernels.sh; $("$nvcc" --version | sed -n 's/^Cuda compilation tools, //p'). Dynamic shared memory is not in the table."
status=0
for architecture in "${architectures[@]}"; do
  SECONDS=0
  "$nvcc" -std=c++20 --expt-relaxed-constexpr -O3 -arch="sm_$architecture" -diag-suppress 128,186,1675,20012 -Xptxas -v -cubin -Iinclude \
    bench/cuda/kernels/kernels_main.cu -o "$work/kernels.cubin" 2>"$work/log"
  echo
  echo "## sm_$architecture, compiled in $SECONDS s"
  echo
  echo "| kernel | registers | shared bytes | stack | spilled bytes |"
  echo "|---|---|---|---|---|"
  c++filt <"$work/log" | awk '
    /Compiling entry function/ { match($0, /\047[^\047]*\047/); name = substr($0, RSTART + 1, RLENGTH - 2) }
    /bytes stack frame/ { stack = $1; spill = $5 + $9 }
    /Used [0-9]+ registers/ {
      registers = $0; sub(/.*Used /, "", registers); sub(/ registers.*/, "", registers)
      shared = 0; if (match($0, /[0-9]+ bytes smem/)) { shared = substr($0, RSTART, RLENGTH); sub(/ bytes smem/, "", shared) }
      gsub(/dvla::v[0-9_a-z]*::/, "", name); gsub(/kernels::/, "", name); sub(/^void /, "", name); sub(/\(.*/, "", name)
      print "| `" name "` | " registers " | " shared " | " stack " | " spill " |"
    }' | sort >"$work/table"
  cat "$work/table"
  if awk -F'|' '$2 !~ /double/ && $6 + 0 > 16' "$work/table" | grep -q .; then
    echo "kernels that spill more than 16 bytes:" >&2
    awk -F'|' '$2 !~ /double/ && $6 + 0 > 16' "$work/table" >&2
    status=1
  fi
done
exit $status
