#!/bin/sh
# Builds the program that measures codecs on a GPU, with g++ and nvcc and without Node: bench/gpu/build.sh FOLDER makes FOLDER/gpu.
# Without nvcc it has no kernels, and only --emulate runs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
native=$here/../../native
out=${1:?usage: build.sh FOLDER}
nvcc=${NVCC:-nvcc}
mkdir -p "$out"
image=
if "$nvcc" --version > "$out/nvcc.txt" 2>&1; then
  targets=
  for gpu in 80 90 100; do
    if "$nvcc" --list-gpu-code | grep -qx "sm_$gpu"; then
      targets="$targets -gencode arch=compute_$gpu,code=sm_$gpu"
      last=$gpu
    fi
  done
  "$nvcc" -std=c++20 -O3 -fmad=false --expt-relaxed-constexpr --threads=2 "-I$native" -fatbin $targets \
    -gencode "arch=compute_$last,code=compute_$last" "$native/cuda/kernels.cu" -o "$out/kernels.fatbin"
  image=".incbin \"$out/kernels.fatbin\""
else
  echo "build.sh: no $nvcc: only --emulate will run" >&2
fi
printf '%s\n' '.section .rodata' '.balign 64' '.globl kvferry_kernels_begin' '.hidden kvferry_kernels_begin' 'kvferry_kernels_begin:' "$image" \
  '.globl kvferry_kernels_end' '.hidden kvferry_kernels_end' 'kvferry_kernels_end:' '.byte 0' '.section .note.GNU-stack,"",%progbits' > "$out/kernels.S"
flags="-std=c++20 -O2 -fPIE -fno-exceptions -ffp-contract=off -fno-trapping-math -fno-math-errno -I$native -I$here"
find "$native/codec" "$native/cuda" "$native/core/crc32c.cpp" "$native/core/runs.cpp" "$here" "$out/kernels.S" -name '*.cpp' -o -name kernels.S | \
  xargs -P 2 -I{} sh -c 'g++ '"$flags"' -c "$1" -o "$2/$(basename "$1").o"' sh {} "$out"
g++ -pie "$out"/*.o -o "$out/gpu" -ldl -pthread
