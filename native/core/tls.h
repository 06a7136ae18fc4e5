// What TLS is given and what it tells, in plain values: whatever link carries it. native/tcp/tls.h has the rest.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace kvferry {

struct TlsMaterial {
  std::string certificate;  // PEM, the leaf first
  std::string key;          // PEM, not encrypted
  std::string authorities;  // PEM
  // SHA-256 fingerprints (64 hexadecimal digits) or serial numbers, lower case, without colons or leading zeros.
  std::vector<std::string> denied;
};

// Who the other end is by its certificate, and what was agreed with it.
struct TlsPeer {
  std::string identity;      // its first URI, else its first DNS name, else its common name
  std::string organization;  // "" if it names none
  std::string protocol, cipher;
  bool resumed = false;
};

}  // namespace kvferry
