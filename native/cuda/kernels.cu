// The kernels as a GPU runs them. native/build.mjs and bench/gpu make a fatbin of it.
#include "kernels.h"

#define KVFERRY_GLOBAL(name, Arguments, threads)                                                               \
  extern "C" __global__ void __launch_bounds__(threads) kvferry_##name(const kvferry::cuda::Arguments arguments) { \
    kvferry::cuda::DeviceBlock<threads> block;                                                  \
    kvferry::cuda::name(block, arguments);                                                                     \
  }
using kvferry::cuda::kEscapeThreads;
using kvferry::cuda::kFrontThreads;
using kvferry::cuda::kProductThreads;
using kvferry::cuda::kRowThreads;
using kvferry::cuda::kWarp;
KVFERRY_KERNELS(KVFERRY_GLOBAL)
