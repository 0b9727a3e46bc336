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
. "$(dirname "$0")/cifar_fs_steps.sh"
mkdir -p "$out"

pretrain_backbone "$out/backbone"

# tune_and_measure SHOT EPOCHS: the three learners, tuned for episodes of SHOT images a class, on the 2,000 novel episodes.
tune_and_measure() {
  local shot=$1 epochs=$2 method words
  for method in prototypical fixed-gate dvla-rl; do
    words=()
    if [[ $method != prototypical ]]; then words=(--semantics "$bank" --semantics-scope own-class); fi
    tune "$out/backbone/model.safetensors" "$method" "$shot" "$epochs" "$out/$method-$shot" ${words[@]+"${words[@]}"}
    measure "$out/$method-$shot/best.safetensors" "$shot" "$out/$method-$shot.json"
  done
}
tune_and_measure 1 10
tune_and_measure 5 5
