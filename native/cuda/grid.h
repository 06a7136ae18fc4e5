// How a kernel sees its threads, once for a GPU and once for the emulator. A kernel is code of a whole block: what its threads do stands in
// `each` (nobody reads what another thread writes) and `phase` (the same, and all have done it before it returns); what happens in between is the same for all of
// them, loops and branches too. On a GPU `each` runs its argument as the thread that one is; the emulator runs it for one thread after the other. So
// the emulator is plain code, the same each time, and sanitizers see every byte of it; run with threads and blocks in the opposite order it shows what depends on it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__CUDACC__)
#define KVFERRY_DEVICE static __device__ __forceinline__
#define KVFERRY_DEVICE_MEMBER __device__ __forceinline__
#define KVFERRY_UNROLL _Pragma("unroll")
#else
#define KVFERRY_DEVICE static inline
#define KVFERRY_DEVICE_MEMBER inline
#define KVFERRY_UNROLL
#endif

namespace kvferry::cuda {

constexpr uint32_t kWarp = 32;

// What a thread loads and stores at once.
struct alignas(16) Words {
  uint32_t word[4];
};

// Blocks of a launch, and bytes of shared memory of each.
struct Grid {
  uint32_t x = 1, y = 1;
  uint32_t shared_bytes = 0;
};

#if defined(__CUDACC__)

template <uint32_t kThreads>
class DeviceBlock {
 public:
  static constexpr uint32_t threads = kThreads;
  // A value of each thread.
  template <typename Value>
  struct Each {
    Value value;
    __device__ __forceinline__ Value& operator[](uint32_t) { return value; }
  };
  __device__ uint32_t x() const { return blockIdx.x; }
  __device__ uint32_t y() const { return blockIdx.y; }
  __device__ uint32_t width() const { return gridDim.x; }
  template <typename Value>
  __device__ Value* shared() const {
    extern __shared__ __align__(128) uint8_t shared_memory[];
    return reinterpret_cast<Value*>(shared_memory);
  }
  template <typename Body>
  __device__ __forceinline__ void each(Body body) {
    body(threadIdx.x);
  }
  template <typename Body>
  __device__ __forceinline__ void phase(Body body) {
    body(threadIdx.x);
    __syncthreads();
  }
  // The same for warps: what they do together, as one.
  template <typename Value>
  struct EachWarp {
    Value value;
    __device__ __forceinline__ Value& operator[](uint32_t) { return value; }
  };
  template <typename Body>
  __device__ __forceinline__ void each_warp(Body body) {
    body(threadIdx.x / kWarp);
  }
  __device__ __forceinline__ void sync_warps() { __syncwarp(); }
  // Of the threads of a warp that is alone in its block: a bit for each.
  __device__ __forceinline__ uint32_t ballot(Each<bool>& flags) {
    static_assert(kThreads == kWarp);
    return __ballot_sync(~0u, flags.value);
  }
  // `to` of each thread becomes `from` of that of its warp which `source` names.
  template <typename Value, typename Source>
  __device__ __forceinline__ void fetch(Each<Value>& from, Source source, Each<Value>& to) {
    to.value = __shfl_sync(~0u, from.value, source(threadIdx.x) % kWarp);
  }
  template <typename Value, size_t kCount, typename Source>
  __device__ __forceinline__ void fetch(Each<Value[kCount]>& from, Source source, Each<Value[kCount]>& to) {
    const uint32_t lane = source(threadIdx.x) % kWarp;
#pragma unroll
    for (size_t at = 0; at < kCount; at++) to.value[at] = __shfl_sync(~0u, from.value[at], lane);
  }
};

KVFERRY_DEVICE uint32_t atomic_add(uint32_t* to, uint32_t number) { return atomicAdd(to, number); }
KVFERRY_DEVICE void atomic_or(uint32_t* to, uint32_t bits) { atomicOr(to, bits); }
KVFERRY_DEVICE uint32_t bits_set(uint32_t word) { return uint32_t(__popc(word)); }
template <typename Vector, typename Byte>
KVFERRY_DEVICE Vector take(const Byte* from) {
  return *reinterpret_cast<const Vector*>(from);
}
template <typename Vector>
KVFERRY_DEVICE void put(uint8_t* to, Vector value) {
  *reinterpret_cast<Vector*>(to) = value;
}
#else

template <uint32_t kThreads>
class EmulatedBlock {
 public:
  static constexpr uint32_t threads = kThreads;
  template <typename Value>
  struct Each {
    Value values[kThreads];
    Value& operator[](uint32_t thread) { return values[thread]; }
  };
  EmulatedBlock(uint32_t x, uint32_t y, uint32_t width, uint8_t* shared, bool is_reversed)
      : x_(x), y_(y), width_(width), shared_(shared), is_reversed_(is_reversed) {}
  uint32_t x() const { return x_; }
  uint32_t y() const { return y_; }
  uint32_t width() const { return width_; }
  template <typename Value>
  Value* shared() const {
    return reinterpret_cast<Value*>(shared_);
  }
  template <typename Body>
  void each(Body body) {
    for (uint32_t at = 0; at < kThreads; at++) body(is_reversed_ ? kThreads - 1 - at : at);
  }
  template <typename Body>
  void phase(Body body) {
    each(body);
  }
  template <typename Value>
  struct EachWarp {
    Value values[kThreads / kWarp];
    Value& operator[](uint32_t warp) { return values[warp]; }
  };
  template <typename Body>
  void each_warp(Body body) {
    for (uint32_t warp = 0; warp < kThreads / kWarp; warp++) body(is_reversed_ ? kThreads / kWarp - 1 - warp : warp);
  }
  void sync_warps() {}
  uint32_t ballot(Each<bool>& flags) {
    static_assert(kThreads == kWarp);
    uint32_t word = 0;
    for (uint32_t thread = 0; thread < kThreads; thread++) word |= uint32_t(flags[thread]) << thread;
    return word;
  }
  template <typename Value, typename Source>
  void fetch(Each<Value>& from, Source source, Each<Value>& to) {
    const Each<Value> copy = from;
    for (uint32_t thread = 0; thread < kThreads; thread++) {
      memcpy(&to[thread], &copy.values[thread / kWarp * kWarp + source(thread) % kWarp], sizeof(Value));
    }
  }

 private:
  const uint32_t x_, y_, width_;
  uint8_t* const shared_;
  const bool is_reversed_;
};

KVFERRY_DEVICE uint32_t atomic_add(uint32_t* to, uint32_t number) {
  const uint32_t before = *to;
  *to += number;
  return before;
}
KVFERRY_DEVICE void atomic_or(uint32_t* to, uint32_t bits) { *to |= bits; }
KVFERRY_DEVICE uint32_t bits_set(uint32_t word) { return uint32_t(__builtin_popcount(word)); }
// As a GPU does it: at an address that is a multiple of the size.
template <typename Vector, typename Byte>
KVFERRY_DEVICE Vector take(const Byte* from) {
  if (reinterpret_cast<uintptr_t>(from) % sizeof(Vector) != 0) __builtin_trap();
  Vector value;
  memcpy(&value, from, sizeof value);
  return value;
}
template <typename Vector>
KVFERRY_DEVICE void put(uint8_t* to, Vector value) {
  if (reinterpret_cast<uintptr_t>(to) % sizeof(Vector) != 0) __builtin_trap();
  memcpy(to, &value, sizeof value);
}
#endif

KVFERRY_DEVICE bool is_aligned(const void* at, size_t bytes) { return reinterpret_cast<uintptr_t>(at) % bytes == 0; }

}  // namespace kvferry::cuda
