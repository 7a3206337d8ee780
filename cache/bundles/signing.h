#pragma once

#include <array>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "lutsmith/error.h"

struct evp_pkey_st;  // OpenSSL's EVP_PKEY

namespace lutsmith::cache {

/// Of Ed25519 (RFC 8032): one of 64 bytes for any message, always the same for the same key and message.
using Signature = std::array<std::byte, 64>;

/// A key as OpenSSL holds it.
struct FreeKey {
  void operator()(evp_pkey_st* key) const;
};
using KeyHandle = std::unique_ptr<evp_pkey_st, FreeKey>;

/// The public half of an Ed25519 key pair: tells whether something was signed by the private half.
/// libcrypto is opened when the first key is read; every call is safe from any thread.
class VerificationKey {
 public:
  /// Reads what `openssl pkey -in key.pem -pubout -out key.pub` writes. Errors: not_found where there is no
  /// such file or no libcrypto, invalid_argument where it is no public key for Ed25519.
  static Result<VerificationKey> read_pem(const std::filesystem::path& path);

  /// Error: corrupt_data where this key's owner did not sign these bytes.
  Result<void> verify(std::span<const std::byte> bytes, const Signature& signature) const;

  /// SHA-256 of the 32 bytes of the public key, as 64 lower-case hexadecimal digits.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  VerificationKey(KeyHandle key, std::string fingerprint)
      : key_(std::move(key)), fingerprint_(std::move(fingerprint)) {}
  KeyHandle key_;
  std::string fingerprint_;
};

/// The private half.
class SigningKey {
 public:
  /// Reads what `openssl genpkey -algorithm ed25519 -out key.pem` writes. Never asks for a password. Errors:
  /// not_found where there is no such file or no libcrypto, invalid_argument where it is no private key for
  /// Ed25519, is encrypted, or can be read by others than its owner.
  static Result<SigningKey> read_pem(const std::filesystem::path& path);

  Result<Signature> sign(std::span<const std::byte> bytes) const;

  /// That of the public half.
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  SigningKey(KeyHandle key, std::string fingerprint)
      : key_(std::move(key)), fingerprint_(std::move(fingerprint)) {}
  KeyHandle key_;
  std::string fingerprint_;
};

}  // namespace lutsmith::cache
