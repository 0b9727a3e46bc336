#!/usr/bin/env bash
# The byte-pair merges of CLIP's tokenizer (OpenAI, MIT) from the package open_clip_torch of PyPI, as OUT/bpe_simple_vocab_16e6.txt: what
# the encoder `clip:OUT` needs beside weights, and what the tests compare whole vocabularies with (DVLA_CLIP_MERGES).
#   scripts/fetch_clip_merges.sh OUT
# Needs python3 with pip; downloads 2 MB.
set -euo pipefail
if (($# != 1)); then sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; fi
out=$1
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m pip download --quiet --no-deps --dest "$work" open_clip_torch==3.3.0
python3 - "$work" "$out" <<'PYTHON'
import glob, gzip, hashlib, os, sys, zipfile
work, out = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(work, "*.whl"))
text = gzip.decompress(zipfile.ZipFile(wheel).read("open_clip/bpe_simple_vocab_16e6.txt.gz"))
found, expected = hashlib.sha256(text).hexdigest(), "67603cfda2e032ad77b5f8808af37789d590db664b26df8705d2bf8b3c553fc8"
if found != expected:
    sys.exit(f"the package's merges have SHA-256 {found}, expected {expected}; nothing was written")
path = os.path.join(out, "bpe_simple_vocab_16e6.txt")
with open(path + ".part", "wb") as file:
    file.write(text)
os.replace(path + ".part", path)
print(path)
PYTHON
