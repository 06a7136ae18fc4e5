// What bench/native/codec.cpp measures: cases that run in turns, and blocks of what they coded.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

constexpr size_t kValues = 16 << 20, kWidth = 192, kRows = 512;
constexpr size_t kBlockValues = kWidth * kRows;

// Blocks of what was coded, one after the other, each in the room that its bound asks for.
struct Blocks {
  explicit Blocks(size_t bound) : bound(bound), bytes(bound * count, 1), sizes(count) {}
  static constexpr size_t count = kValues / kBlockValues;
  size_t bound;
  std::vector<uint8_t> bytes;
  std::vector<size_t> sizes;
  template <typename Coder>
  size_t each(Coder code) {
    size_t sum = 0;
    for (size_t block = 0; block < count; block++) {
      if (!code(block, bytes.data() + block * bound, &sizes[block])) exit(3);
      sum += sizes[block];
    }
    return sum;
  }
};

struct Case {
  std::string name, isa;
  // Over all values; bytes of the coded side. What it does `aside` is no part of its time.
  std::function<size_t()> run;
  const char* way = "";         // of chunks
  size_t values = Blocks::count * kBlockValues;
  std::vector<double> seconds = {};
  size_t coded = 0;
};

inline double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

inline double seconds_aside = 0;
template <typename Work>
void aside(Work work) {
  const double begin = seconds_now();
  work();
  seconds_aside += seconds_now() - begin;
}
