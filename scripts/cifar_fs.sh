#!/usr/bin/env bash
# The CIFAR-FS recipe for two cores: pre-trains the small Visformer on the 64 base classes (7 minutes), tunes a prototypical
# network, DVLA-RL with its gate fixed at 0.5 and DVLA-RL, each on 1,200 1-shot and on 600 5-shot episodes, and evaluates the
# 2,000 fixed novel episodes of either kind. bench/results/cifar_fs.md holds what it gave.
#   scripts/cifar_fs.sh DATA BANK OUT
# DATA: folder with base, val and novel; BANK: vectors (.pth) or texts (.json) of the classes; the tool: DVLA (build/demo/...).
set -euo pipefail
if (($# != 3)); then sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2; fi
data=$1 bank=$2 out=$3
dvla=${DVLA:-$(dirname "$0")/../build/demo/examples/cli/dvla}
common=(--data "$data" --in-memory --preprocess cifar)
mkdir -p "$out"

"$dvla" pretrain "${common[@]}" --model visformer-small-32 --batch 128 --epochs 12 --warmup 0.6 --lr 2e-3 --weight-decay 0.2 \
  --label-smoothing 0 --mixup 0 --cutmix 0 --drop-path 0 --augment pretrain --smallest-area 0.7 --validate-every 4 --out "$out/backbone"

# tune_and_measure SHOT EPOCHS: the three learners, tuned for episodes of SHOT images a class, on the 2,000 novel episodes.
tune_and_measure() {
  local shot=$1 epochs=$2 method words
  for method in prototypical fixed-gate dvla-rl; do
    words=()
    if [[ $method != prototypical ]]; then words=(--semantics "$bank" --semantics-scope own-class); fi
    "$dvla" meta-train "${common[@]}" --method "$method" ${words[@]+"${words[@]}"} --checkpoint "$out/backbone/model.safetensors" --way 5 \
      --shot "$shot" --epochs "$epochs" --episodes-per-epoch 120 --validation-episodes 300 --lr 5e-4 --backbone-lr 5e-5 --drop-path 0 \
      --augment episodic-cifar --out "$out/$method-$shot"
    "$dvla" evaluate "${common[@]}" --checkpoint "$out/$method-$shot/best.safetensors" --shot "$shot" --json "$out/$method-$shot.json"
  done
}
tune_and_measure 1 10
tune_and_measure 5 5
