// How fast codecs are on a GPU, beside its own copy in the same run, and whether the CPU makes the same of it: one JSON document. build.sh builds it.
//   gpu [--device N] [--mebibytes N] [--rounds N] [--nvcomp PATH]    on a GPU; nvCOMP is the host's if no path says where it is
//   gpu --emulate [--nvcomp PATH]                                    the same on the emulator, small and without speeds; nvCOMP only as what stands in for it
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda/codec.h"
#include "run.h"

namespace {

using namespace kvferry;

// Of a bandwidth or of a rate: what the design asks for (see bench/RESULTS.md).
constexpr double kPackShare = 0.6, kNearRate = 40e9, kRansRate = 150e9;

struct Options {
  bool emulates = false;
  uint32_t device = 0, rounds = 9;
  uint64_t mebibytes = 2048;
  std::string nvcomp;
};

[[noreturn]] void refuse(const char* what) {
  fprintf(stderr, "gpu: %s\nusage: gpu [--device N] [--mebibytes N] [--rounds N] [--nvcomp PATH] | --emulate [--nvcomp PATH]\n", what);
  exit(2);
}

Options read_options(int count, char** arguments) {
  Options options;
  for (int at = 1; at < count; at++) {
    const auto number = [&] {
      char* end = nullptr;
      const unsigned long value = at + 1 < count ? strtoul(arguments[++at], &end, 10) : 0;
      if (end == nullptr || *end != '\0' || value > 65536) refuse("expected a number");
      return value;
    };
    if (strcmp(arguments[at], "--emulate") == 0) {
      options.emulates = true;
    } else if (strcmp(arguments[at], "--device") == 0) {
      options.device = uint32_t(number());
    } else if (strcmp(arguments[at], "--mebibytes") == 0) {
      options.mebibytes = number();
    } else if (strcmp(arguments[at], "--rounds") == 0) {
      options.rounds = uint32_t(number());
    } else if (strcmp(arguments[at], "--nvcomp") == 0 && at + 1 < count) {
      options.nvcomp = arguments[++at];
    } else {
      refuse(arguments[at]);
    }
  }
  return options;
}

// `rate`: bytes a second against what is asked for, 0 if nothing is.
void print_rate(const char* name, double seconds, double bytes, double asked) {
  printf(", \"%sBytesPerSecond\": %.0f", name, bytes / seconds);
  if (asked > 0) printf(", \"%sReaches\": %.3f", name, bytes / seconds / asked);
}

void print_result(const bench::Result& result, bool has_speed, double copy_rate, bool is_last) {
  printf("  {\"name\": \"%s\", \"bytes\": %llu, \"codedBytes\": %llu, \"ratio\": %.4f, \"problem\": \"%s\"", result.name.c_str(),
         static_cast<unsigned long long>(result.bytes), static_cast<unsigned long long>(result.coded_bytes),
         result.coded_bytes == 0 ? 0 : double(result.bytes) / double(result.coded_bytes), result.problem.c_str());
  if (has_speed && result.problem.empty()) {
    const double asked = result.name == "gpu-near" ? kNearRate : result.name == "rans alone" ? kRansRate : 0;
    print_rate("encode", result.encode_seconds, double(result.bytes), asked);
    print_rate("decode", result.decode_seconds, double(result.bytes), asked);
    // Read and written, as the copy's.
    const double moved = double(result.bytes + result.coded_bytes);
    const bool is_packed = result.name == "int4";
    printf(", \"encodeOfCopy\": %.3f, \"decodeOfCopy\": %.3f", moved / result.encode_seconds / copy_rate, moved / result.decode_seconds / copy_rate);
    if (is_packed) printf(", \"encodeOfCopyAsked\": %.2f", kPackShare);
  }
  printf("}%s\n", is_last ? "" : ",");
}

}  // namespace

int main(int count, char** arguments) {
  const Options options = read_options(count, arguments);
  std::unique_ptr<cuda::Device> emulator;
  std::unique_ptr<cuda::Gpu> gpu;
  if (options.emulates) {
    emulator = cuda::make_emulator(false);
  } else {
    std::string problem;
    gpu = cuda::open_gpu(options.device, &problem);
    if (gpu == nullptr) return fprintf(stderr, "gpu: %s\n", problem.c_str()), 1;
  }
  cuda::Device* const device = options.emulates ? emulator.get() : gpu.get();
  const uint64_t bytes = options.emulates ? 256 << 10 : options.mebibytes << 20;
  const bench::World world = {device, gpu.get(), bytes, options.emulates ? 1 : options.rounds, options.nvcomp};
  const bool is_host = options.nvcomp.empty();
  const std::string no_nvcomp = !is_host ? "" : options.emulates ? "nvCOMP needs a GPU" : cuda::nvcomp_info().problem;
  const double copy_rate = bench::copy_rate(world);
  const std::string name = options.emulates ? "emulator" : cuda::driver_info().gpus[options.device].name;
  printf("{\"schema\": \"kvferry.gpu/1\", \"device\": \"%s\", \"workBytes\": %llu", name.c_str(), static_cast<unsigned long long>(cuda::kWorkBytes));
  printf(", \"nvcomp\": \"%s\"", !is_host ? options.nvcomp.c_str() : no_nvcomp.empty() ? cuda::nvcomp_info().version.c_str() : no_nvcomp.c_str());
  if (gpu != nullptr) printf(", \"cuda\": %u, \"copyBytesPerSecond\": %.0f", cuda::driver_info().version, copy_rate);
  printf(", \"results\": [\n");
  bool is_right = true;
  for (const bench::Case& one : bench::cases_of(options.emulates, no_nvcomp.empty())) {
    const bench::Result result = bench::run_codec(world, one);
    is_right = is_right && result.problem.empty();
    print_result(result, gpu != nullptr, copy_rate, false);
    fflush(stdout);
  }
  const bench::Result rans = bench::run_rans(world);
  print_result(rans, gpu != nullptr, copy_rate, true);
  printf("]}\n");
  return is_right && rans.problem.empty() ? 0 : 1;
}
