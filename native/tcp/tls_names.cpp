// Names in certificates, and reasons in words.
#include "tls.h"

#if KVFERRY_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>

namespace kvferry {
namespace {

constexpr size_t kNameBytes = 1024;

struct FreeNames {
  void operator()(GENERAL_NAMES* names) const { GENERAL_NAMES_free(names); }
};
using Names = std::unique_ptr<GENERAL_NAMES, FreeNames>;

Names alternative_names(X509* certificate) {
  return Names(static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
}

// "" for what is no plain text: a name with a zero in it reads differently to different readers.
std::string plain(const uint8_t* bytes, int count) {
  if (count <= 0 || size_t(count) > kNameBytes) return "";
  const bool is_text = std::all_of(bytes, bytes + count, [](uint8_t byte) { return byte > 0x20 && byte != 0x7f; });
  return is_text ? std::string(reinterpret_cast<const char*>(bytes), size_t(count)) : "";
}

std::string text_of(const GENERAL_NAME* name) {
  const ASN1_STRING* text = name->type == GEN_URI ? name->d.uniformResourceIdentifier : name->d.dNSName;
  return plain(ASN1_STRING_get0_data(text), ASN1_STRING_length(text));
}

std::string first_of(const Names& names, int type) {
  for (int index = 0; names != nullptr && index < sk_GENERAL_NAME_num(names.get()); index++) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), index);
    if (name->type != type) continue;
    std::string text = text_of(name);
    if (!text.empty()) return text;
  }
  return "";
}

std::string subject_field(X509* certificate, int field) {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int index = X509_NAME_get_index_by_NID(subject, field, -1);
  if (index < 0) return "";
  unsigned char* text = nullptr;
  const int count = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
  std::string found;
  // Blanks are usual here, control characters are not.
  if (count > 0 && size_t(count) <= kNameBytes && std::none_of(text, text + count, [](uint8_t byte) { return byte < 0x20 || byte == 0x7f; })) {
    found.assign(reinterpret_cast<char*>(text), size_t(count));
  }
  OPENSSL_free(text);
  return found;
}

Refusal reason_of(int problem) {
  switch (problem) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return Refusal::expired;
    case X509_V_ERR_CERT_REVOKED:
      return Refusal::denied;
    case X509_V_ERR_HOSTNAME_MISMATCH:
      return Refusal::wrong_identity;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      return Refusal::unknown_ca;
    default:
      return Refusal::bad_certificate;
  }
}

std::string words_of(const TlsDialogue& dialogue) {
  const std::string whose = dialogue.shown.empty() ? "" : " (of " + dialogue.shown + ")";
  if (dialogue.problem == X509_V_ERR_CERT_REVOKED) return "the peer's certificate" + whose + " is denied here";
  if (dialogue.problem == X509_V_ERR_HOSTNAME_MISMATCH) return "the peer's certificate" + whose + " is not of " + dialogue.expected;
  return "the peer's certificate" + whose + ": " + X509_verify_cert_error_string(dialogue.problem);
}

bool is_about_certificates(int alert) {
  return (alert >= SSL_AD_BAD_CERTIFICATE && alert <= SSL_AD_CERTIFICATE_UNKNOWN) || alert == SSL_AD_UNKNOWN_CA || alert == SSL_AD_ACCESS_DENIED ||
         alert == SSL_AD_CERTIFICATE_REQUIRED;
}

}  // namespace

std::string identity_of(X509* certificate) {
  const Names names = alternative_names(certificate);
  for (const int type : {GEN_URI, GEN_DNS}) {
    std::string name = first_of(names, type);
    if (!name.empty()) return name;
  }
  return subject_field(certificate, NID_commonName);
}

std::string organization_of(X509* certificate) { return subject_field(certificate, NID_organizationName); }

bool is_named(X509* certificate, const std::string& expected) {
  if (expected.empty()) return false;
  if (identity_of(certificate) == expected) return true;
  if (X509_check_ip_asc(certificate, expected.c_str(), 0) == 1) return true;
  if (X509_check_host(certificate, expected.data(), expected.size(), X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) == 1) return true;
  const Names names = alternative_names(certificate);
  for (int index = 0; names != nullptr && index < sk_GENERAL_NAME_num(names.get()); index++) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), index);
    if (name->type == GEN_URI && text_of(name) == expected) return true;
  }
  return false;
}

TlsProblem explain(const TlsDialogue& dialogue, unsigned long error, int alert) {
  if (dialogue.problem != 0) return {{Code::certificate_rejected, words_of(dialogue)}, reason_of(dialogue.problem)};
  if (alert >= 0) {
    const std::string said = SSL_alert_desc_string_long(alert);
    if (!is_about_certificates(alert)) return {{Code::tls_failed, "the peer ended the handshake: " + said}, Refusal::handshake};
    return {{Code::certificate_rejected, "the peer refused this node's certificate: " + said}, Refusal::handshake};
  }
  const int reason = ERR_GET_REASON(error);
  if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) return {{Code::certificate_rejected, "the peer shows no certificate"}, Refusal::no_certificate};
  const char* words = ERR_reason_error_string(error);
  return {{Code::tls_failed, words == nullptr ? "the handshake failed" : words}, Refusal::handshake};
}

}  // namespace kvferry
#endif
