// All kernels: name, arguments, threads of a block. kernels.cu makes them of this list for GPUs, emulator.cpp for CPUs.
#pragma once
#include "escape_kernel.h"
#include "exponent_kernel.h"
#include "group_kernel.h"
#include "merge_kernel.h"
#include "nvcomp_kernel.h"
#include "product_kernel.h"
#include "rans_kernel.h"
#include "raw_kernel.h"
#include "row_kernel.h"

#define KVFERRY_KERNELS(KERNEL)                               \
  KERNEL(angles, AngleArguments, kRowThreads)                 \
  KERNEL(group_encode, GroupArguments, kRowThreads)           \
  KERNEL(channel_encode, GroupArguments, kRowThreads)         \
  KERNEL(group_decode, GroupArguments, kRowThreads)           \
  KERNEL(row_encode, RowArguments, kRowThreads)               \
  KERNEL(row_decode, RowArguments, kRowThreads)               \
  KERNEL(raw, RawArguments, kRowThreads)                      \
  KERNEL(rans_encode, RansArguments, kWarp)                   \
  KERNEL(rans_decode, RansArguments, kWarp)                   \
  KERNEL(escapes_encode, EscapeArguments, kEscapeThreads)     \
  KERNEL(escapes_decode, EscapeArguments, kEscapeThreads)     \
  KERNEL(escapes_find, FindArguments, kEscapeThreads)         \
  KERNEL(nvcomp_take, NvcompArguments, kEscapeThreads)        \
  KERNEL(exponent_front, ExponentArguments, kFrontThreads)    \
  KERNEL(exponent_encode, ExponentArguments, kWarp)           \
  KERNEL(exponent_decode, ExponentArguments, kWarp)           \
  KERNEL(wave_forward, WaveArguments, kRowThreads)            \
  KERNEL(wave_unstep, WaveArguments, kRowThreads)             \
  KERNEL(wave_inverse, WaveArguments, kRowThreads)            \
  KERNEL(product_encode, ProductArguments, kProductThreads)   \
  KERNEL(product_decode, ProductArguments, kProductThreads)   \
  KERNEL(merge, MergeArguments, kWarp)                        \
  KERNEL(seal, SealArguments, kEscapeThreads)

namespace kvferry::cuda {

#define KVFERRY_KERNEL_NAME(name, Arguments, threads) name,
enum class Kernel : uint32_t { KVFERRY_KERNELS(KVFERRY_KERNEL_NAME) count };
#undef KVFERRY_KERNEL_NAME

}  // namespace kvferry::cuda
