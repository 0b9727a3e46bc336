#!/usr/bin/env bash
# What of a class's meaning helps: DVLA-RL on CIFAR-FS with (a) class names, (b) attributes, (c) descriptions, (d) both levels, (e) both
# with the first k attributes instead of those progressively selected, (f) published CLIP vectors. Makes the banks, tunes and
# evaluates by the recipe of scripts/cifar_fs.sh, and writes OUT/table.md. A run that ended early goes on with the same command.
#   scripts/semantics_table.sh DATA TEXTS ENCODER CLIP OUT
# DATA: folder with base, val and novel; TEXTS: .json with candidate attributes and descriptions; ENCODER: minilm:FOLDER; CLIP: .pth.
# DVLA: the tool; BACKBONE: a pre-trained model.safetensors (else 7 minutes more); METHODS (dvla-rl), SHOTS (1 5), K (4), ROWS
# (a b c d e f), JOBS (1: rows at once, each on THREADS threads, 0: all): a row takes 5 to 6 minutes a shot on one thread.
set -euo pipefail
if (($# != 5)); then sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; fi
data=$1 texts=$2 encoder=$3 clip=$4 out=$5
dvla=${DVLA:-$(dirname "$0")/../build/demo/examples/cli/dvla}
read -ra methods <<<"${METHODS:-dvla-rl}"
read -ra shots <<<"${SHOTS:-1 5}"
read -ra rows <<<"${ROWS:-a b c d e f}"
k=${K:-4} threads=${THREADS:-0}
. "$(dirname "$0")/cifar_fs_steps.sh"
banks=$out/banks
mkdir -p "$banks"

make_banks() {
  "$dvla" semantics select "$texts" --encoder "$encoder" -k "$k" --out "$banks/selected.json"
  "$dvla" semantics select "$texts" --encoder "$encoder" -k "$k" --mode none --out "$banks/first.json"
  "$dvla" semantics encode "$banks/selected.json" --encoder "$encoder" --levels names --out "$banks/a"
  "$dvla" semantics encode "$banks/selected.json" --encoder "$encoder" --levels attributes --out "$banks/b"
  "$dvla" semantics encode "$banks/selected.json" --encoder "$encoder" --levels description --out "$banks/c"
  "$dvla" semantics encode "$banks/selected.json" --encoder "$encoder" --levels both --out "$banks/d"
  "$dvla" semantics encode "$banks/first.json" --encoder "$encoder" --levels both --out "$banks/e"
  "$dvla" semantics merge "$clip" --out "$banks/f"
  local row
  for row in a b c d e f; do "$dvla" semantics check "$banks/$row.safetensors" --data "$data" >"$banks/$row.txt"; done
}
if [[ ! -e $banks/f.txt ]]; then make_banks; fi

backbone=${BACKBONE:-$out/backbone/model.safetensors}
if [[ ! -e $backbone ]]; then pretrain_backbone "$out/backbone" --threads "$threads" --resume; fi

# run_row ROW: every method and shot of a bank; what is done already is left alone.
run_row() {
  local row=$1 method shot epochs name
  for method in "${methods[@]}"; do
    for shot in "${shots[@]}"; do
      name=$out/$row-$method-$shot epochs=$((shot == 1 ? 10 : 5))
      if [[ -e $name.json ]]; then continue; fi
      tune "$backbone" "$method" "$shot" "$epochs" "$name" --semantics "$banks/$row.safetensors" --phrases "$k" \
        --semantics-scope own-class --threads "$threads" --resume
      measure "$name/best.safetensors" "$shot" "$name.json"
    done
  done
}
for row in "${rows[@]}"; do
  while (($(jobs -rp | wc -l) >= ${JOBS:-1})); do wait -n || true; done
  run_row "$row" >"$out/$row.log" 2>&1 &
done
wait
for row in "${rows[@]}"; do
  if ! [[ -e $out/$row-${methods[-1]}-${shots[-1]}.json ]]; then echo "row $row did not finish; see $out/$row.log" >&2; exit 1; fi
done

# The reports' own numbers: "accuracy": 66.93..., "interval": 0.47...
number() { sed -n "s/^ \"$2\": \([0-9.]*\),*$/\1/p" "$1"; }
declare -A titles=([a]="class names only" [b]="attributes only" [c]="descriptions only" [d]="both levels"
  [e]="both, the first $k attributes (no selection)" [f]="published CLIP vectors")
{
  printf '| | method |'
  for shot in "${shots[@]}"; do printf ' 5-way %s-shot |' "$shot"; done
  printf '\n|---|---|'
  for shot in "${shots[@]}"; do printf -- '---|'; done
  printf '\n'
  for row in "${rows[@]}"; do
    for method in "${methods[@]}"; do
      printf '| (%s) %s | %s |' "$row" "${titles[$row]}" "$method"
      for shot in "${shots[@]}"; do
        printf ' %.2f +- %.2f |' "$(number "$out/$row-$method-$shot.json" accuracy)" "$(number "$out/$row-$method-$shot.json" interval)"
      done
      printf '\n'
    done
  done
} >"$out/table.md"
cat "$out/table.md"
