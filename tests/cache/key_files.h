#pragma once

#include <gtest/gtest.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/Base64.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace lutsmith::cache {

// Test keys of RFC 8032, section 7.1: the seeds are published, so they are no secrets.
inline constexpr std::string_view kSeed1 = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
inline constexpr std::string_view kPublic1 =
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
inline constexpr std::string_view kSeed2 = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
inline constexpr std::string_view kPublic2 =
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";

inline void write_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

/// A PEM file with these bytes, given in hexadecimal; its owner's alone, as a private key has to be.
inline std::filesystem::path write_pem(const std::filesystem::path& path, const std::string& label,
                                       const std::string& hex) {
  write_text(path, "-----BEGIN " + label + "-----\n" + llvm::encodeBase64(llvm::fromHex(hex)) +
                       "\n-----END " + label + "-----\n");
  std::filesystem::permissions(path,
                               std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  return path;
}

// The fixed DER of RFC 8410 before the 32 bytes of a key; `algorithm` is the last byte of the object
// identifier 1.3.101.N: 0x70 Ed25519, 0x6e X25519.
inline std::filesystem::path write_private(const std::filesystem::path& path, std::string_view seed,
                                           const std::string& algorithm = "70") {
  return write_pem(path, "PRIVATE KEY",
                   "302e020100300506032b65" + algorithm + "04220420" + std::string(seed));
}
inline std::filesystem::path write_public(const std::filesystem::path& path, std::string_view key,
                                          const std::string& algorithm = "70") {
  return write_pem(path, "PUBLIC KEY", "302a300506032b65" + algorithm + "032100" + std::string(key));
}

}  // namespace lutsmith::cache
