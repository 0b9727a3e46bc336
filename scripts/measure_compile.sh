#!/usr/bin/env bash
# Measures what the library costs the compiler and writes bench/results/compile_time.md: processor time (user and system) and
# peak memory of g++ -O2 for the programs of bench/compile, the least of three runs each. Exits with 1 over a budget.
# Needs GNU time (Debian and Ubuntu: time). CXX may name another compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ ! -x /usr/bin/time ]]; then
  echo "measure_compile: /usr/bin/time is missing; install the package time" >&2
  exit 2
fi

cxx=${CXX:-g++}
command=("$cxx" -std=c++20 -O2 -Iinclude -c)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
result=bench/results/compile_time.md
over=0

# row NAME PROGRAM SECONDS MEGABYTES: a line of the table, measured against its budget.
row() {
  local name=$1 source=bench/compile/$2.cpp budget_s=$3 budget_mb=$4
  for _ in 1 2 3; do
    /usr/bin/time -a -o "$work/$2" -f '%U %S %M' "${command[@]}" "$source" -o "$work/$2.o"
  done
  awk -v name="$name" -v source="$source" -v budget_s="$budget_s" -v budget_mb="$budget_mb" '
    { seconds = $1 + $2; if (NR == 1 || seconds < least) least = seconds; if ($3 > peak) peak = $3 }
    END {
      megabytes = peak / 1024
      printf "| %s (`%s`) | %.2f | %s | %.0f | %s |\n", name, source, least, budget_s, megabytes, budget_mb
      exit !(least <= budget_s && (budget_mb == "-" || megabytes <= budget_mb))
    }' "$work/$2" >>"$work/table" || over=1
}

row 'the header alone' include 1.5 -
row 'a 20-line network, forward and backward' network 4 400
row 'Visformer-Tiny, forward and backward' visformer 40 1536

mkdir -p "$(dirname "$result")"
{
  echo '# What the library costs the compiler'
  echo
  echo "Least of three runs on $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1), $("$cxx" --version | head -n 1)."
  echo "Made by \`scripts/measure_compile.sh\`, which runs \`${command[*]} FILE\`."
  echo
  echo '| program | seconds (user + system) | budget | peak MB | budget |'
  echo '|---|---|---|---|---|'
  cat "$work/table"
} >"$work/result"
mv "$work/result" "$result"
cat "$result"
exit "$over"
