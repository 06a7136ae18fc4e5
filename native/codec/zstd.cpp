#include "zstd.h"

#include <dlfcn.h>

#include <string>

namespace kvferry::codec {
namespace {

// Of zstd.h, whose stable part this is.
struct Library {
  size_t (*bound)(size_t);
  size_t (*encode)(void*, size_t, const void*, size_t, int);
  size_t (*decode)(void*, size_t, const void*, size_t);
  unsigned (*is_error)(size_t);
  const char* (*version)();
  std::string problem;

  Library() {
    void* library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* reason = dlerror();
      problem = reason == nullptr ? "libzstd.so.1 does not load" : reason;
      return;
    }
    bind(library, "ZSTD_compressBound", &bound);
    bind(library, "ZSTD_compress", &encode);
    bind(library, "ZSTD_decompress", &decode);
    bind(library, "ZSTD_isError", &is_error);
    bind(library, "ZSTD_versionString", &version);
  }

  template <typename Function>
  void bind(void* library, const char* name, Function* function) {
    *function = reinterpret_cast<Function>(dlsym(library, name));
    if (*function == nullptr) problem = std::string("libzstd.so.1 has no ") + name;
  }
};

const Library& zstd() {
  static const Library library;
  return library;
}

}  // namespace

const char* zstd_problem() { return zstd().problem.c_str(); }

const char* zstd_version() { return zstd().problem.empty() ? zstd().version() : ""; }

size_t zstd_bound(size_t count) {
  if (!zstd().problem.empty()) return 0;
  const size_t bound = zstd().bound(count);
  return zstd().is_error(bound) != 0 ? 0 : bound;
}

size_t zstd_encode(const uint8_t* from, size_t count, int level, uint8_t* out) {
  const size_t room = zstd_bound(count);
  if (room == 0) return 0;
  const size_t bytes = zstd().encode(out, room, from, count, level);
  return zstd().is_error(bytes) != 0 ? 0 : bytes;
}

bool zstd_decode(const uint8_t* in, size_t bytes, uint8_t* to, size_t count) {
  // An error is a number that is no size.
  return zstd().problem.empty() && zstd().decode(to, count, in, bytes) == count;
}

}  // namespace kvferry::codec
