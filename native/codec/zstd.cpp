#include "zstd.h"

#include <dlfcn.h>

#include <string>

namespace kvferry::codec {
namespace {

// Newer Nodes have a zstd of their own and export its names, which would stand before those that the library calls of itself: two versions
// in one context. Sanitizers refuse the flag.
#if defined(RTLD_DEEPBIND) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
constexpr int kOwnNames = RTLD_DEEPBIND;
#else
constexpr int kOwnNames = 0;
#endif

// Of zstd.h, whose stable part this is.
struct Library {
  size_t (*bound)(size_t);
  void* (*make_context)();
  size_t (*free_context)(void*);
  size_t (*set)(void*, int, int);
  size_t (*encode)(void*, void*, size_t, const void*, size_t);
  size_t (*decode)(void*, size_t, const void*, size_t);
  unsigned (*is_error)(size_t);
  const char* (*version)();
  std::string problem;

  Library() {
    void* library = dlopen("libzstd.so.1", RTLD_NOW | RTLD_LOCAL | kOwnNames);
    if (library == nullptr) {
      const char* reason = dlerror();
      problem = reason == nullptr ? "libzstd.so.1 does not load" : reason;
      return;
    }
    bind(library, "ZSTD_compressBound", &bound);
    bind(library, "ZSTD_createCCtx", &make_context);
    bind(library, "ZSTD_freeCCtx", &free_context);
    bind(library, "ZSTD_CCtx_setParameter", &set);
    bind(library, "ZSTD_compress2", &encode);
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

// ZSTD_cParameter.
constexpr int kLevel = 100, kChecksum = 201;
// What a harmed frame decodes to may be one thing today and another tomorrow (tables that it never filled), so all of ours end with a checksum of the content,
// and a frame that says that it has none is refused: its head is a magic of four bytes, then this bit among others.
constexpr size_t kChecksumBytes = 4, kFlagsAt = 4;
constexpr uint8_t kHasChecksum = 4;

}  // namespace

const char* zstd_problem() { return zstd().problem.c_str(); }

const char* zstd_version() { return zstd().problem.empty() ? zstd().version() : ""; }

size_t zstd_bound(size_t count) {
  if (!zstd().problem.empty()) return 0;
  const size_t bound = zstd().bound(count);
  return zstd().is_error(bound) != 0 ? 0 : bound + kChecksumBytes;
}

size_t zstd_encode(const uint8_t* from, size_t count, int level, uint8_t* out) {
  const size_t room = zstd_bound(count);
  if (room == 0) return 0;
  void* context = zstd().make_context();
  if (context == nullptr) return 0;
  const bool is_set = zstd().is_error(zstd().set(context, kLevel, level)) == 0 && zstd().is_error(zstd().set(context, kChecksum, 1)) == 0;
  const size_t bytes = is_set ? zstd().encode(context, out, room, from, count) : 0;
  zstd().free_context(context);
  return zstd().is_error(bytes) != 0 ? 0 : bytes;
}

bool zstd_decode(const uint8_t* in, size_t bytes, uint8_t* to, size_t count) {
  if (bytes <= kFlagsAt || (in[kFlagsAt] & kHasChecksum) == 0) return false;
  // An error is a number that is no size.
  return zstd().problem.empty() && zstd().decode(to, count, in, bytes) == count;
}

}  // namespace kvferry::codec
