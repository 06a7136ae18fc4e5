#include "nvcomp.h"

#include <dlfcn.h>

#include <initializer_list>
#include <type_traits>

namespace kvferry::cuda {
namespace {

using codec::Coder;
using codec::Element;
using codec::Spec;

// Of nvcomp.h, version 6; both coders have the same functions.
struct Properties {
  uint32_t version;  // 1000 x major + 100 x minor + patch
  uint32_t cudart_version;
};
struct alignas(8) Options {
  int32_t algorithm = 0;  // while decoding: which hardware decodes; the library's choice
  int32_t type = 0;       // of codes; Bitcomp decodes without
  char reserved[56] = {};
};
struct Alignments {
  size_t input, output, work;
};
constexpr int kBytes = 0, kUnsignedBytes = 1, kUnsigned16 = 3, kUnsigned32 = 5, kFloat16 = 10, kFloat32 = 11;
constexpr uint32_t kMajor = 6;
// Of work memory, in which each batch begins anew.
constexpr size_t kWorkAlignment = 256;

#define KVFERRY_NVCOMP(CALL)                                                                                                           \
  CALL(encoder_alignments, "CompressGetRequiredAlignments", (Options, Alignments*))                                                    \
  CALL(decoder_alignments, "DecompressGetRequiredAlignments", (Options, Alignments*))                                                  \
  CALL(bound, "CompressGetMaxOutputChunkSize", (size_t, Options, size_t*))                                                             \
  CALL(encoder_work, "CompressGetTempSize", (size_t, size_t, Options, size_t*, size_t, void*))                                         \
  CALL(decoder_work, "DecompressGetTempSize", (size_t, size_t, Options, size_t*, size_t, void*))                                       \
  CALL(encode, "CompressAsync",                                                                                                        \
       (const void* const*, const size_t*, size_t, size_t, void*, size_t, void* const*, size_t*, Options, int*, void*))                \
  CALL(decode, "DecompressAsync",                                                                                                      \
       (const void* const*, const size_t*, const size_t*, size_t*, size_t, void*, size_t, void* const*, Options, int*, void*))

struct Library {
  void* handle = nullptr;
  NvcompInfo info;

  explicit Library(std::initializer_list<const char*> names) {
    const char* found = nullptr;
    for (const char* name : names) {
      if (handle != nullptr) break;
      handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      found = name;
    }
    if (handle == nullptr) {
      info.problem = std::string(*names.begin()) + " is not installed";
      return;
    }
    const auto ask = reinterpret_cast<int (*)(Properties*)>(dlsym(handle, "nvcompGetProperties"));
    Properties properties = {};
    if (ask == nullptr || ask(&properties) != 0) {
      info.problem = std::string(found) + " does not say its version";
      return;
    }
    const uint32_t version = properties.version;
    info.version = std::to_string(version / 1000) + "." + std::to_string(version / 100 % 10) + "." + std::to_string(version % 100);
    if (version / 1000 != kMajor) info.problem = "nvCOMP is " + info.version + ", and kvferry uses version " + std::to_string(kMajor);
  }
};

const Library& installed() {
  static const Library library({"libnvcomp.so.6", "libnvcomp.so", "libnvcomp.so.5", "libnvcomp.so.4"});
  return library;
}

class Bound : public Nvcomp {
 public:
  Bound(const Library& library, const Spec& spec, std::string* problem) {
    const bool is_ans = spec.coder == Coder::nvcomp_ans, is_wide = spec.element == Element::f32;
    if (spec.quantizer != codec::Quantizer::none) {
      options_.type = is_ans ? kBytes : kUnsignedBytes;
    } else {
      options_.type = is_ans ? (is_wide ? kFloat32 : kFloat16) : is_wide ? kUnsigned32 : kUnsigned16;
    }
    if (is_ans) decoder_options_.type = options_.type;
    const auto bind = [&](auto* function, const std::string& name) {
      *function = reinterpret_cast<std::remove_pointer_t<decltype(function)>>(dlsym(library.handle, name.c_str()));
      if (*function == nullptr && problem->empty()) *problem = "nvCOMP " + library.info.version + " has no " + name;
    };
    const std::string prefix = is_ans ? "nvcompBatchedANS" : "nvcompBatchedBitcomp";
#define KVFERRY_BIND(member, name, parameters) bind(&member##_, prefix + name);
    KVFERRY_NVCOMP(KVFERRY_BIND)
#undef KVFERRY_BIND
    bind(&explain_, "nvcompGetStatusString");
    if (problem->empty()) check_alignments(problem);
  }

  size_t bound(size_t bytes) const override {
    size_t most = 0;
    return bytes <= kNvcompBytesMax && bound_(bytes, options_, &most) == 0 ? most : 0;
  }
  int work_bytes(bool decodes, size_t count, size_t most, size_t total, void* stream, size_t* bytes) const override {
    return decodes ? decoder_work_(count, most, decoder_options_, bytes, total, stream) : encoder_work_(count, most, options_, bytes, total, stream);
  }
  int run(bool decodes, const NvcompLists& a, uint8_t* work, size_t work_bytes, void* stream) const override {
    if (!decodes) return encode_(a.from, a.from_bytes, a.most, a.count, work, work_bytes, a.to, a.to_bytes, options_, a.statuses, stream);
    return decode_(a.from, a.from_bytes, a.room, a.to_bytes, a.count, work, work_bytes, a.to, decoder_options_, a.statuses, stream);
  }
  std::string explain(int status) const override {
    const char* words = explain_(status);
    return "nvCOMP: " + std::string(words == nullptr ? "an error without a name" : words) + " (" + std::to_string(status) + ")";
  }

 private:
  void check_alignments(std::string* problem) const {
    Alignments encoder = {}, decoder = {};
    int status = encoder_alignments_(options_, &encoder);
    if (status == 0) status = decoder_alignments_(decoder_options_, &decoder);
    if (status != 0) {
      *problem = explain(status);
      return;
    }
    for (const Alignments& wanted : {encoder, decoder}) {
      const bool is_given = wanted.input <= kNvcompAlignment && wanted.output <= kNvcompAlignment && wanted.work <= kWorkAlignment;
      if (!is_given) *problem = "nvCOMP wants memory at multiples of more than 16";
    }
  }

#define KVFERRY_POINTER(member, name, parameters) int(*member##_) parameters = nullptr;
  KVFERRY_NVCOMP(KVFERRY_POINTER)
#undef KVFERRY_POINTER
  const char* (*explain_)(int) = nullptr;
  Options options_, decoder_options_;
};

}  // namespace

const NvcompInfo& nvcomp_info() { return installed().info; }

std::unique_ptr<const Nvcomp> Nvcomp::open(const Spec& spec, const std::string& path, std::string* problem) {
  const Library other = path.empty() ? installed() : Library({path.c_str()});
  *problem = other.info.problem;
  if (!problem->empty()) return nullptr;
  auto bound = std::make_unique<const Bound>(other, spec, problem);
  if (!problem->empty()) return nullptr;
  return bound;
}

}  // namespace kvferry::cuda
