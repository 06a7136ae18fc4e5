// In nvCOMP's place, for tests: its functions with its rules for arguments, over the host's memory, and another coder behind them. -DVERSION=N is the version it says;
// -DPLAIN keeps codes as they are, so that they can be looked at; -DFAILS makes each encoder call fail; -DREFUSES each stream; -DLIES says wrong sizes; -DLACKS leaves
// out a function.
// A stream: "NVST", type, bytes of codes, then of each byte of a code's type which values there are (256 bits) and their places among these, bit by bit.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#ifndef VERSION
#define VERSION 6000
#endif

namespace {

constexpr int kOk = 0, kInvalid = 10, kNotSupported = 11, kCannotDecompress = 12, kRoom = 15, kAlignment = 17, kTooLarge = 18, kCannotCompress = 19;
constexpr size_t kHeader = 16, kMost = 1 << 24, kAlign = 16;

struct alignas(8) Options {
  int32_t algorithm, type;
  char reserved[56];
};
struct Alignments {
  size_t input, output, work;
};

size_t width_of(int type) { return type == 3 || type == 10 ? 2 : type == 5 || type == 11 ? 4 : type <= 1 && type >= 0 ? 1 : 0; }

bool is_known(const Options& options) {
  for (const char byte : options.reserved) {
    if (byte != 0) return false;
  }
  return options.algorithm == 0 && width_of(options.type) != 0;
}

size_t bound_of(size_t bytes, size_t width) { return kHeader + bytes + 33 * width; }
// As if each tile needed a little and each byte some.
size_t work_of(size_t count, size_t most, size_t total) { return 40 * count + most / 2 + total / 8; }

bool is_aligned(const void* at) { return reinterpret_cast<uintptr_t>(at) % kAlign == 0; }

// How many bits tell so many values apart.
uint32_t bits_of(uint32_t values) {
  uint32_t bits = 0;
  while (values > 1u << bits) bits++;
  return bits;
}

size_t encode(const uint8_t* from, size_t bytes, int type, uint8_t* to) {
  memcpy(to, "NVST", 4);
  const uint32_t numbers[3] = {uint32_t(type), uint32_t(bytes), 0};
  memcpy(to + 4, numbers, sizeof numbers);
  uint8_t* at = to + kHeader;
#ifdef PLAIN
  memcpy(at, from, bytes);
  return kHeader + bytes;
#endif
  const size_t width = width_of(type);
  for (size_t byte = 0; byte < width; byte++) {
    uint8_t* present = at;
    memset(present, 0, 32);
    for (size_t i = byte; i < bytes; i += width) present[from[i] / 8] |= uint8_t(1 << from[i] % 8);
    uint8_t place[256] = {};
    uint32_t values = 0;
    for (uint32_t value = 0; value < 256; value++) {
      if ((present[value / 8] >> value % 8 & 1) != 0) place[value] = uint8_t(values++);
    }
    at += 32;
    const uint32_t bits = bits_of(values);
    uint32_t word = 0, filled = 0;
    for (size_t i = byte; i < bytes; i += width) {
      word |= uint32_t(place[from[i]]) << filled;
      for (filled += bits; filled >= 8; filled -= 8, word >>= 8) *at++ = uint8_t(word);
    }
    if (filled > 0) *at++ = uint8_t(word);
  }
  return size_t(at - to);
}

// 0 or a status.
int decode(const uint8_t* from, size_t count, int type, uint8_t* to, size_t room, size_t* bytes) {
  uint32_t numbers[3];
  if (count < kHeader || memcmp(from, "NVST", 4) != 0) return kCannotDecompress;
  memcpy(numbers, from + 4, sizeof numbers);
  const size_t width = width_of(int(numbers[0])), wanted = numbers[1];
  if (width == 0 || (type >= 0 && numbers[0] != uint32_t(type)) || wanted % width != 0 || numbers[2] != 0) return kCannotDecompress;
  if (wanted > room) return kRoom;
  const uint8_t *at = from + kHeader, *end = from + count;
#ifdef PLAIN
  if (size_t(end - at) != wanted) return kCannotDecompress;
  memcpy(to, at, wanted);
  return *bytes = wanted, kOk;
#endif
  for (size_t byte = 0; byte < width; byte++) {
    if (end - at < 32) return kCannotDecompress;
    std::vector<uint8_t> values;
    for (uint32_t value = 0; value < 256; value++) {
      if ((at[value / 8] >> value % 8 & 1) != 0) values.push_back(uint8_t(value));
    }
    at += 32;
    const uint32_t bits = bits_of(uint32_t(values.size()));
    const size_t taken = (wanted / width * bits + 7) / 8;
    if (size_t(end - at) < taken || (values.empty() && wanted > 0)) return kCannotDecompress;
    for (size_t i = 0; i < wanted / width; i++) {
      uint32_t place = 0;
      for (uint32_t bit = 0; bit < bits; bit++) place |= uint32_t(at[(i * bits + bit) / 8] >> (i * bits + bit) % 8 & 1) << bit;
      if (place >= values.size()) return kCannotDecompress;
      to[i * width + byte] = values[place];
    }
    at += taken;
  }
  if (at != end) return kCannotDecompress;
  return *bytes = wanted, kOk;
}

int alignments(const Options& options, Alignments* wanted) {
  if (!is_known(options)) return kNotSupported;
  *wanted = {kAlign, kAlign, 8};
  return kOk;
}

int bound(size_t bytes, const Options& options, size_t* most) {
  if (!is_known(options)) return kNotSupported;
  if (bytes > kMost) return kTooLarge;
  *most = bound_of(bytes, width_of(options.type));
  return kOk;
}

int work(size_t count, size_t most, const Options& options, size_t* bytes, size_t total) {
  if (!is_known(options) || count == 0 || most > total || total > most * count) return kInvalid;
  *bytes = work_of(count, most, total);
  return kOk;
}

// Whoever owns the memory sees if there is less of it.
void scribble(void* at, size_t bytes) {
  if (bytes > 0) memset(at, 0xEE, bytes);
}

int encode_all(const void* const* from, const size_t* from_bytes, size_t most, size_t count, void* memory, size_t memory_bytes, void* const* to,
               size_t* to_bytes, const Options& options, int* statuses) {
#ifdef FAILS
  return 1000;
#endif
  size_t total = 0, largest = 0;
  for (size_t i = 0; i < count; i++) total += from_bytes[i], largest = from_bytes[i] > largest ? from_bytes[i] : largest;
  if (!is_known(options) || count == 0 || largest != most || memory_bytes < work_of(count, most, total)) return kInvalid;
  scribble(memory, work_of(count, most, total));
  const size_t width = width_of(options.type);
  for (size_t i = 0; i < count; i++) {
    if (!is_aligned(from[i]) || !is_aligned(to[i])) return kAlignment;
    if (from_bytes[i] == 0 || from_bytes[i] > kMost || from_bytes[i] % width != 0) return kInvalid;
    scribble(to[i], bound_of(from_bytes[i], width));
    to_bytes[i] = encode(static_cast<const uint8_t*>(from[i]), from_bytes[i], options.type, static_cast<uint8_t*>(to[i]));
    statuses[i] = kOk;
#ifdef REFUSES
    statuses[i] = kCannotCompress;
#endif
#ifdef LIES
    to_bytes[i] = i % 2 == 0 ? 0 : SIZE_MAX;
#endif
  }
  return kOk;
}

int decode_all(const void* const* from, const size_t* from_bytes, const size_t* room, size_t* to_bytes, size_t count, void* memory,
               size_t memory_bytes, void* const* to, const Options& options, bool has_type, int* statuses) {
  size_t total = 0, most = 0;
  for (size_t i = 0; i < count; i++) total += room[i], most = room[i] > most ? room[i] : most;
  if (!is_known(options) || count == 0 || memory_bytes < work_of(count, most, total)) return kInvalid;
  scribble(memory, work_of(count, most, total));
  for (size_t i = 0; i < count; i++) {
    if (!is_aligned(from[i]) || !is_aligned(to[i])) return kAlignment;
    // What is no length of any stream is to be refused by whoever calls.
    if (from_bytes[i] == 0 || from_bytes[i] > bound_of(room[i], has_type ? width_of(options.type) : 4)) __builtin_trap();
    to_bytes[i] = 0;
    statuses[i] = decode(static_cast<const uint8_t*>(from[i]), from_bytes[i], has_type ? options.type : -1, static_cast<uint8_t*>(to[i]), room[i], to_bytes + i);
#ifdef LIES
    if (i % 2 == 0) to_bytes[i]++;
#endif
  }
  return kOk;
}

}  // namespace

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED int nvcompGetProperties(uint32_t* properties) {
  properties[0] = VERSION, properties[1] = 13000;
  return kOk;
}
EXPORTED const char* nvcompGetStatusString(int status) { return status == 1000 ? "a made-up failure" : "a status"; }

#define CODER(Name, has_type)                                                                                                                  \
  EXPORTED int nvcompBatched##Name##CompressGetRequiredAlignments(Options options, Alignments* wanted) { return alignments(options, wanted); } \
  EXPORTED int nvcompBatched##Name##DecompressGetRequiredAlignments(Options options, Alignments* wanted) { return alignments(options, wanted); } \
  EXPORTED int nvcompBatched##Name##CompressGetMaxOutputChunkSize(size_t bytes, Options options, size_t* most) { return bound(bytes, options, most); } \
  EXPORTED int nvcompBatched##Name##CompressGetTempSize(size_t count, size_t most, Options options, size_t* bytes, size_t total, void*) {     \
    return work(count, most, options, bytes, total);                                                                                           \
  }                                                                                                                                            \
  EXPORTED int nvcompBatched##Name##DecompressGetTempSize(size_t count, size_t most, Options options, size_t* bytes, size_t total, void*) {   \
    return work(count, most, options, bytes, total);                                                                                           \
  }                                                                                                                                            \
  EXPORTED int nvcompBatched##Name##DecompressAsync(const void* const* from, const size_t* from_bytes, const size_t* room, size_t* to_bytes,  \
                                                    size_t count, void* memory, size_t memory_bytes, void* const* to, Options options,        \
                                                    int* statuses, void*) {                                                                    \
    return decode_all(from, from_bytes, room, to_bytes, count, memory, memory_bytes, to, options, has_type, statuses);                         \
  }
CODER(ANS, true)
CODER(Bitcomp, false)

#define ENCODER(Name)                                                                                                                       \
  EXPORTED int nvcompBatched##Name##CompressAsync(const void* const* from, const size_t* from_bytes, size_t most, size_t count, void* memory, \
                                                  size_t memory_bytes, void* const* to, size_t* to_bytes, Options options, int* statuses,  \
                                                  void*) {                                                                                  \
    return encode_all(from, from_bytes, most, count, memory, memory_bytes, to, to_bytes, options, statuses);                                \
  }
ENCODER(ANS)
#ifndef LACKS
ENCODER(Bitcomp)
#endif
