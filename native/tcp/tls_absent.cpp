// A build without OpenSSL's headers: a context cannot be made, so that nothing else here is ever called.
#include "tls_stream.h"

#if !KVFERRY_TLS
#include <cerrno>

namespace kvferry {

std::string tls_version(std::string* problem) {
  *problem = "the addon was built without OpenSSL's headers";
  return "";
}

std::shared_ptr<TlsContext> TlsContext::make(const TlsMaterial&, uint32_t, Failure* failure) {
  failure->code = Code::unsupported;
  tls_version(&failure->detail);
  return nullptr;
}

TlsContext::~TlsContext() = default;
RecordKey::~RecordKey() = default;
void CipherBuffer::release() {}
std::unique_ptr<TlsStream> TlsStream::make(int, TlsDialogue) { return nullptr; }
TlsStream::~TlsStream() = default;
TlsStream::Step TlsStream::handshake(TlsProblem*) { return Step::failed; }
ssize_t TlsStream::receive(const iovec*, size_t) { return errno = EPROTO, -1; }
bool TlsStream::pending() const { return false; }
ssize_t TlsStream::send(const iovec*, size_t, bool) { return errno = EPROTO, -1; }
bool TlsStream::flush(bool) { return true; }
void TlsStream::farewell() {}

}  // namespace kvferry
#endif
