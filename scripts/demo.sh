#!/usr/bin/env bash
# A few-shot learner from nothing, without a download: draws a world of objects whose class names are words, pre-trains a
# small Visformer on its base classes, tunes three learners on episodes and measures them on classes none of them has seen.
# Builds first (some minutes); then at most five minutes on two cores. Results lie in demo/ (or DEMO_ROOT).
set -euo pipefail
cd "$(dirname "$0")/.."
if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 0; fi

source scripts/setup.sh
install_missing "${build_packages[@]}"
build=${BUILD_ROOT:-build}/demo
options=(-DCMAKE_BUILD_TYPE=Release -DDVLA_BUILD_TESTS=OFF -DDVLA_INSTALL=OFF)
if command -v ccache >/dev/null; then options+=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache); fi
cmake -S . -B "$build" -G Ninja -DDVLA_CUDA=OFF "${options[@]}" >/dev/null
cmake --build "$build" -j "$(count_jobs)" --target dvla attribute_world
dvla=$build/examples/cli/dvla
root=${DEMO_ROOT:-demo}
rm -rf "$root"
mkdir -p "$root"

SECONDS=0
echo; echo "== drawing the world: 240 base, 40 validation and 80 novel classes of 60 images"
"$build/examples/attribute_world/attribute_world" "$root/world"
data=(--data "$root/world" --in-memory --preprocess cifar)

echo; echo "== pre-training on the base classes"
"$dvla" pretrain "${data[@]}" --model visformer-small-32 --epochs 4 --warmup 0.4 --max-minutes 1.7 --lr 2e-3 --weight-decay 0.2 \
  --label-smoothing 0 --mixup 0 --cutmix 0 --drop-path 0 --smallest-area 0.7 --validate-every 0 --out "$root/backbone"

# tune_and_measure METHOD: prints "mean +- half" of 1,000 episodes.
results=()
tune_and_measure() {
  local method=$1 words=()
  if [[ $method != prototypical ]]; then words=(--semantics "$root/world/semantics.json" --semantics-scope own-class); fi
  echo; echo "== $method: tuning on 5-way 1-shot episodes of base classes"
  "$dvla" meta-train "${data[@]}" --method "$method" ${words[@]+"${words[@]}"} --checkpoint "$root/backbone/model.safetensors" \
    --epochs 2 --episodes-per-epoch 60 --validation-episodes 40 --max-minutes 0.6 --lr 1e-3 --backbone-lr 5e-5 --drop-path 0 --out "$root/$method"
  "$dvla" evaluate "${data[@]}" --checkpoint "$root/$method/best.safetensors" --episodes 1000 --json "$root/$method.json" | tee "$root/$method.txt"
  results+=("$(sed -n 's/.*1-shot: //p' "$root/$method.txt")")
}
tune_and_measure prototypical
tune_and_measure fixed-gate
tune_and_measure dvla-rl

echo
echo "Novel classes, 5-way 1-shot, mean and 95 % interval over 1,000 episodes ($SECONDS s beyond the build):"
echo
printf '%-24s | %-24s | %-24s\n' "prototypical network" "DVLA-RL, gate fixed 0.5" "DVLA-RL" \
  "------------------------" "------------------------" "------------------------" "${results[@]}"
