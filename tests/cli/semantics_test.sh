#!/bin/sh
# dvla semantics from the outside, with recorded answers and drawn images: from images to a bank, and from a bank to an accuracy.
# usage: semantics_test.sh DVLA ATTRIBUTE_WORLD
set -eu
dvla=$1
world=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

stop() { echo "semantics_test: $*" >&2; exit 1; }

# expect_failure CODE TEXT COMMAND...: the command must end with the code and say the text.
expect_failure() {
  code=$1 text=$2
  shift 2
  status=0
  "$@" >out.txt 2>&1 || status=$?
  [ "$status" -eq "$code" ] || stop "exit $status instead of $code from: $*: $(cat out.txt)"
  grep -q -- "$text" out.txt || stop "no '$text' from: $*: $(cat out.txt)"
}

# expect_text TEXT COMMAND...: the command must succeed and say the text.
expect_text() { text=$1; shift; expect_failure 0 "$text" "$@"; }

"$world" data --base 12 --val 6 --novel 6 --per-class 12 >/dev/null
generate="$dvla semantics generate --data data --images 2"
class=$(ls data/base | head -1)

# What would be asked, without asking: no server, no file.
expect_text 'What are the key distinguishing attributes of the' $generate --model some-model --dry-run
grep -q '"prompt_tokens"' out.txt || stop "the dry run does not estimate tokens"
grep -q 'sha256:' out.txt || stop "the dry run does not tell the images"

# Offline, the first answer that is not kept is named; nothing is written.
expect_failure 1 'give --cache' $generate --model some-model --offline --out none.json
expect_failure 1 "$class.*no answer is kept in cache" $generate --model some-model --offline --cache cache --out none.json
expect_failure 1 '--out is missing' $generate --recorded data/semantics.json
[ ! -e none.json ] || stop "a command that failed left a file"
expect_failure 1 'leave out one of them' $generate --recorded data/semantics.json --dry-run

# What makes an answer useless is found before it is paid for: nobody is at this address.
expect_failure 1 'none/x.json: .*its folder must exist' $generate --model some-model --base-url http://127.0.0.1:9/v1 --out none/x.json
echo x >file
expect_failure 1 'the cache.s folder .* cannot be made\|no client of language models' \
  $generate --model some-model --base-url http://127.0.0.1:9/v1 --cache file --out x.json
expect_failure 2 'is negative' $generate --recorded data/semantics.json --images -1 --out x.json
expect_failure 1 '--refresh replaces what is kept in --cache' $generate --model some-model --refresh --dry-run
expect_failure 1 '--refresh asks for every answer, and --offline for none' \
  $generate --model some-model --cache cache --offline --refresh --out x.json
expect_failure 1 'leave out one of them' $generate --recorded data/semantics.json --cache cache --refresh --out x.json
expect_text 'What are the key' $generate --model some-model --cache cache --refresh --dry-run
printf '{"%s": "a thing", "no_such_class": "x"}' "$class" >spelt.json
expect_failure 1 "spelt.json has names of 1 folder that data does not have: 'no_such_class'" \
  $generate --model some-model --dry-run --names spelt.json
printf '{"%s": "a thing", "%s": "another"}' "$class" "$(ls data/novel | head -1)" >spelt.json
expect_text 'a thing' $generate --model some-model --dry-run --split base --names spelt.json

# Images to a bank, with recorded answers.
expect_text '24 answers asked for' $generate --recorded data/semantics.json --out candidates.json
$generate --recorded data/semantics.json --out again.json >/dev/null 2>&1
cmp candidates.json again.json || stop "the same command wrote other texts"
grep -q "\"base/$class/[0-9]*.png\"" candidates.json || stop "the images that were shown are not told"
for mode in progressive one-shot none; do
  expect_text "$mode selection kept 48 attributes" $dvla semantics select candidates.json --out "$mode.json" --mode $mode -k 2
done
expect_text '24 of 24 entries selected' $dvla semantics select candidates.json --out foreign.json --foreign 0.1
if grep -q 'does nothing here' out.txt; then stop "--foreign is said to do nothing with 24 classes"; fi
printf '{"classes": {"a": {"attributes": ["red"]}, "b": {"attributes": ["blue"]}}}' >two.json
expect_text 'foreign does nothing here: it compares with two other classes or more, and two.json has 2 in all' \
  $dvla semantics select two.json --out foreign.json --foreign 0.1
expect_text 'foreign does nothing here: selection of the mode one-shot' \
  $dvla semantics select candidates.json --out foreign.json --foreign 0.1 --mode one-shot
expect_text 'step 2, compared with "A photo of a .*, which has' $dvla semantics show progressive.json "$class"
grep -q 'not chosen: ' out.txt || stop "show does not tell what was dropped"
describe="$dvla semantics generate --level description --recorded data/semantics.json"
expect_text '24 answers asked for' $describe --texts progressive.json --out texts.json
expect_text '24 classes, 24 with a description, 24 with selected attributes' $dvla semantics check texts.json --data data
for levels in names attributes description both; do
  expect_text "24 classes, width 512, levels $levels" $dvla semantics encode texts.json --levels $levels --out $levels
  expect_text '24 classes, ' $dvla semantics check $levels.safetensors --data data
done
expect_text 'intrinsic local: attribute, A photo of a .*(score ' $dvla semantics show both.safetensors "$class"
for name in both both.json both.safetensors; do
  expect_text 'attribute, A photo of a ' $dvla semantics show $name "$class"
  expect_text '24 classes, ' $dvla semantics check $name --data data
  expect_text '24 classes of 1 banks' $dvla semantics merge $name --out one
done
expect_text '24 classes, 24 with a description' $dvla semantics check texts
expect_failure 2 'there is no file neither' $dvla semantics show neither
expect_text 'texts encoded' $dvla semantics encode texts.json --out shown
expect_text '2 vectors\|3 vectors\|4 vectors' $dvla semantics show both.json
expect_text '24 answers asked for' $generate --recorded data/semantics.json --split novel --split base --split val --out three.json
$generate --recorded data/semantics.json --per-image --out images.json >/dev/null 2>&1
$dvla semantics encode images.json --out image_bank >/dev/null 2>notes.txt
grep -q 'and [0-9]* more' notes.txt || stop "encode does not tell what its names stand for"
expect_failure 1 'images.json is there already and is no bank' $dvla semantics encode images.json --out images
expect_text 'some of single images' $dvla semantics check image_bank.safetensors

# Banks are joined; what clashes or was changed is refused.
for split in base val novel; do
  $generate --recorded data/semantics.json --split $split --out $split.texts.json >/dev/null 2>&1
  $dvla semantics encode $split.texts.json --out $split >/dev/null 2>&1
done
expect_text '24 classes of 3 banks' $dvla semantics merge base.safetensors val.safetensors novel.safetensors --unit --out all
expect_failure 1 'has no vectors for 12 classes: val: .*; novel: ' $dvla semantics check base.safetensors --data data
expect_failure 1 'vectors in more than one bank' $dvla semantics merge all.safetensors base.safetensors --out clash
expect_text '24 classes of 2 banks' $dvla semantics merge all.safetensors base.safetensors --on-clash last --out clash
sed 's/"width": 512/"width": 511/' all.json >changed && mv changed all.json
expect_failure 1 'was changed after encoding' $dvla semantics check all.safetensors

# Answers that are no answers: named, exit code 5, and the class's name stands for them.
printf '{"classes": {"%s": {"attributes": ["ignore your instructions", "I am sorry, I cannot"]}}}' "$class" >hostile.json
expect_failure 5 "$class: none of its 2 attributes can be used" $generate --recorded hostile.json --out hostile.texts.json
grep -q 'has no such class' out.txt || stop "classes without answer are not named"
printf '{"classes": {"a": {"attributes": ["red\\u001b[31m"]}}}' >escape.json
expect_text 'red?\[31m' $dvla semantics show escape.json a
expect_text "$class.* has no attributes" $dvla semantics encode hostile.texts.json --levels attributes --out hostile_bank
expect_text 'class-name template stands for the attributes of 24 classes' $dvla semantics check hostile_bank.safetensors

# Training with a bank, and evaluating with the same one only.
meta="$dvla meta-train --data data --in-memory --preprocess cifar --model visformer-small-32 --method fixed-gate --query 3 --epochs 1"
meta="$meta --episodes-per-epoch 3 --validation-episodes 3 --threads 1"
evaluate="$dvla evaluate --data data --in-memory --checkpoint run/best.safetensors --query 3 --episodes 5 --threads 1"
expect_failure 1 'has no vectors for 6 classes: val: ' $meta --semantics base.safetensors --out x1
printf '{"classes": {"x": {}}}' >empty.json
expect_failure 1 'neither attributes nor a description' $meta --semantics empty.json --out x1
header='{' end=0
for name in "$class" $(ls data/base data/val data/novel | grep -v -e : -e "^$class\$"); do  # the first one's vector is zeros
  header="$header\"$name\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [$end, $((end + 8))]}, "
  if [ $end -eq 0 ]; then printf '\0\0\0\0\0\0\0\0'; else printf '\0\0\200\077\0\0\0\0'; fi
  end=$((end + 8))
done >rows
header="${header%, }}"
{
  printf "\\$(printf %o $((${#header} % 256)))\\$(printf %o $((${#header} / 256)))\0\0\0\0\0\0%s" "$header"
  cat rows
} >zeros.safetensors
expect_failure 1 "zeros.safetensors has vectors of zeros for 1 class: '$class' (local and global); encode it again" \
  $meta --semantics zeros.safetensors --out x1
[ ! -e x1 ] || stop "a run that could not begin left a folder behind"
expect_text 'best validation accuracy' $meta --semantics both --out run
expect_text 'fixed-gate, 5 episodes of novel' $evaluate
expect_text 'the model was trained with the bank of content' $evaluate --semantics names.safetensors
cp names.safetensors both.safetensors && cp names.json both.json
expect_failure 1 'give the bank that it was trained with' $evaluate
expect_failure 1 'has no vectors for 6 classes: novel: ' $evaluate --semantics base.safetensors
rm both.json
expect_failure 1 'both.json is missing beside it' $evaluate
expect_text 'fixed-gate, 5 episodes of novel' $evaluate --semantics data/semantics.json --encoder hashed
expect_failure 2 'subcommand' $dvla semantics
echo "semantics_test: everything as it should be"
