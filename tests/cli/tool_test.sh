#!/bin/sh
# The tool from the outside: a killed run continues to the bit, evaluation reports, mistakes are answered with a sentence.
# usage: tool_test.sh DVLA ATTRIBUTE_WORLD
set -eu
dvla=$1
world=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

stop() { echo "tool_test: $*" >&2; exit 1; }

# expect_failure CODE TEXT COMMAND...: the command must end with the code and say the text.
expect_failure() {
  code=$1 text=$2
  shift 2
  status=0
  "$@" >out.txt 2>&1 || status=$?
  [ "$status" -eq "$code" ] || stop "exit $status instead of $code from: $*: $(cat out.txt)"
  grep -q -- "$text" out.txt || stop "no '$text' from: $*: $(cat out.txt)"
}

# killed_and_resumed FOLDER COMMAND...: kills the run without warning once it has saved, then lets it finish with other threads.
killed_and_resumed() {
  folder=$1
  shift
  "$@" --threads 2 --out "$folder" 2>/dev/null >/dev/null &
  run=$!
  while [ ! -f "$folder/last.safetensors" ]; do
    kill -0 "$run" 2>/dev/null || stop "the run ended before it saved: $*"
    sleep 0.1
  done
  sleep 0.3
  kill -9 "$run" || stop "the run was over before it could be killed: $*"
  wait "$run" 2>/dev/null || true
  "$@" --threads 1 --out "$folder" --resume 2>/dev/null >/dev/null
}

"$world" data --base 24 --val 6 --novel 8 --per-class 20 >/dev/null
base="--data data --in-memory --preprocess cifar"

pretrain="$dvla pretrain $base --model visformer-small-32 --epochs 4 --warmup 1 --batch 24 --validate-every 0 --save-every 7"
$pretrain --threads 1 --out straight 2>/dev/null >/dev/null
killed_and_resumed killed $pretrain
cmp straight/model.safetensors killed/model.safetensors || stop "a killed pre-training continued to another model"

meta="$dvla meta-train $base --checkpoint straight/model.safetensors --semantics data/semantics.json --query 5 --epochs 2"
meta="$meta --episodes-per-epoch 20 --validation-episodes 10 --save-every 3"
$meta --threads 1 --out meta_straight 2>/dev/null >/dev/null
killed_and_resumed meta_killed $meta
cmp meta_straight/best.safetensors meta_killed/best.safetensors || stop "a killed meta-tuning continued to another best model"

$dvla evaluate $base --checkpoint meta_straight/best.safetensors --query 5 --episodes 20 --threads 1 --json one.json 2>/dev/null >one.txt
$dvla evaluate $base --checkpoint meta_straight/best.safetensors --query 5 --episodes 20 --threads 2 2>/dev/null >two.txt
cmp one.txt two.txt || stop "the accuracy depends on the number of threads"
grep -q '"accuracy"' one.json && grep -q '"images_per_second"' one.json || stop "the report lacks accuracy or speed"
$dvla evaluate $base --checkpoint straight/model.safetensors --shot 5 --query 5 --episodes 20 2>/dev/null | grep -q 'prototypical, 20 episodes' ||
  stop "a backbone cannot be evaluated"

$dvla evaluate $base --checkpoint meta_straight/best.safetensors --method prototypical --query 5 --episodes 20 2>/dev/null |
  grep -q 'prototypical, 20 episodes' || stop "the backbone of a learner cannot be evaluated by itself"

$dvla convert meta_straight/best.safetensors backbone.safetensors --strip backbone. | grep -q 'backbone.norm.bn.weight -> norm.bn.weight' ||
  stop "convert does not tell what it renamed"
$dvla info --checkpoint backbone.safetensors | grep -q 'learned elements' || stop "info tells nothing"

expect_failure 2 'model' $dvla pretrain --data data --model no-such-model --out x
expect_failure 2 'subcommand' $dvla
expect_failure 1 'the data set.s folder does not exist' $dvla pretrain --data nowhere --model conv4-32 --out x1
expect_failure 1 'images-on card is for --device cuda' $dvla pretrain --data data --model conv4-32 --images-on card --out x1
expect_failure 1 'add --resume' $pretrain --out straight
expect_failure 1 'was made with lr' $pretrain --lr 1 --out straight --resume
expect_failure 1 'give --semantics' $dvla meta-train $base --checkpoint straight/model.safetensors --out x2
printf '{"classes": {"one": {"attributes": ["red"], "description": "red"}}}' >few.json
expect_failure 1 'has no vectors for 30 classes: base: .*; val: ' $dvla meta-train $base --checkpoint straight/model.safetensors --semantics few.json --out x3
expect_failure 1 'does not fit the model' $dvla evaluate $base --model conv4-32 --checkpoint straight/model.safetensors
expect_failure 1 'without dvla-rl' $dvla evaluate $base --checkpoint straight/model.safetensors --method dvla-rl --semantics data/semantics.json
expect_failure 1 'works in a single process, but this is rank 1 of 2' env RANK=1 WORLD_SIZE=2 $pretrain --out x1
expect_failure 1 'RANK is set but WORLD_SIZE is not' env RANK=1 $pretrain --out x1
expect_failure 1 'meta-train works in a single process' env RANK=0 WORLD_SIZE=2 $meta --out x2
[ ! -e x1 ] && [ ! -e x2 ] && [ ! -e x3 ] || stop "a run that could not begin left a folder behind"
head -c 1000 straight/model.safetensors >cut.safetensors
expect_failure 1 'cut.safetensors' $dvla evaluate $base --model visformer-small-32 --checkpoint cut.safetensors
echo "tool_test: everything as it should be"
