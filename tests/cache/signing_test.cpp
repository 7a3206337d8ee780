#include "cache/bundles/signing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <ostream>

#include "key_files.h"
#include "must.h"
#include "temporary_directory.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;
using test::must;

struct Vector {
  std::string_view seed;
  std::string_view public_key;
  const char* message;
  const char* signature;
};

void PrintTo(const Vector& vector, std::ostream* out) { *out << "of message \"" << vector.message << '"'; }

// RFC 8032, section 7.1, tests 1 to 3.
constexpr Vector kVectors[] = {
    {kSeed1, kPublic1, "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
     "d25bf5f0595bbe24655141438e7a100b"},
    {kSeed2, kPublic2, "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
     "387b2eaeb4302aeeb00d291612bb0c00"},
    {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
     "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
     "4a7c15e9716ed28dc027beceea1ec40a"},
};

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

class Rfc8032 : public testing::TestWithParam<Vector> {
 protected:
  TemporaryDirectory directory_;
};

TEST_P(Rfc8032, KeysFromTheRawSeedsSignAndVerifyAsPublished) {
  const Vector& vector = GetParam();
  const auto key = must(SigningKey::read_pem(write_private(directory_.path() / "key.pem", vector.seed)));
  const auto trusted =
      must(VerificationKey::read_pem(write_public(directory_.path() / "key.pub", vector.public_key)));
  EXPECT_EQ(key.fingerprint(), trusted.fingerprint());
  const std::string message = llvm::fromHex(vector.message);
  const Signature signature = must(key.sign(bytes_of(message)));
  const llvm::ArrayRef raw(reinterpret_cast<const std::uint8_t*>(signature.data()), signature.size());
  EXPECT_EQ(llvm::toHex(raw, /*LowerCase=*/true), vector.signature);
  EXPECT_TRUE(trusted.verify(bytes_of(message), signature).has_value());

  const Result<void> other_message = trusted.verify(bytes_of(message + "x"), signature);
  ASSERT_FALSE(other_message.has_value());
  EXPECT_EQ(other_message.error().code, ErrorCode::corrupt_data);
  for (std::size_t bit = 0; bit < 8 * signature.size(); ++bit) {
    Signature changed = signature;
    changed[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_FALSE(trusted.verify(bytes_of(message), changed).has_value()) << "bit " << bit;
  }
}

INSTANTIATE_TEST_SUITE_P(Section71, Rfc8032, testing::ValuesIn(kVectors));

class KeyFile : public testing::Test {
 protected:
  fs::path path(const char* name = "key.pem") const { return directory_.path() / name; }

  /// What both readers say of a file they must refuse.
  template <class AnyKey>
  static Error refusal(const fs::path& file) {
    const Result<AnyKey> key = AnyKey::read_pem(file);
    EXPECT_FALSE(key.has_value());
    return key ? Error{} : key.error();
  }

  TemporaryDirectory directory_;
};

TEST_F(KeyFile, FingerprintIsTheDigestOfTheRawPublicKey) {
  // By Python: hashlib.sha256(bytes.fromhex(kPublic1)).hexdigest()
  EXPECT_EQ(must(VerificationKey::read_pem(write_public(path(), kPublic1))).fingerprint(),
            "21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9");
}

TEST_F(KeyFile, SignatureOfAnotherKeyIsRefused) {
  const auto key = must(SigningKey::read_pem(write_private(path(), kSeed2)));
  const auto trusted = must(VerificationKey::read_pem(write_public(path("key.pub"), kPublic1)));
  EXPECT_NE(key.fingerprint(), trusted.fingerprint());
  EXPECT_FALSE(trusted.verify(bytes_of("text"), must(key.sign(bytes_of("text")))).has_value());
}

TEST_F(KeyFile, MissingFileIsToldHowToBeMade) {
  const Error no_private = refusal<SigningKey>(path());
  EXPECT_EQ(no_private.code, ErrorCode::not_found);
  EXPECT_THAT(no_private.message, testing::HasSubstr("openssl genpkey -algorithm ed25519"));
  const Error no_public = refusal<VerificationKey>(path());
  EXPECT_EQ(no_public.code, ErrorCode::not_found);
  EXPECT_THAT(no_public.message, testing::HasSubstr("-pubout"));
}

TEST_F(KeyFile, PrivateKeyThatOthersCanReachIsRefused) {
  write_private(path(), kSeed1);
  for (const mode_t mode : {0640U, 0604U, 0620U, 0601U}) {
    ASSERT_EQ(chmod(path().c_str(), mode), 0);
    const Error error = refusal<SigningKey>(path());
    EXPECT_EQ(error.code, ErrorCode::invalid_argument) << mode;
    EXPECT_THAT(error.message, testing::HasSubstr("chmod 600 " + path().string())) << mode;
  }
  ASSERT_EQ(chmod(path().c_str(), 0400), 0);
  EXPECT_TRUE(SigningKey::read_pem(path()).has_value());
}

TEST_F(KeyFile, PublicKeyMayBeReadByAll) {
  write_public(path(), kPublic1);
  ASSERT_EQ(chmod(path().c_str(), 0644), 0);
  EXPECT_TRUE(VerificationKey::read_pem(path()).has_value());
}

TEST_F(KeyFile, PublicAndPrivateKeyInEachOthersPlaceAreNamed) {
  const Error as_private = refusal<SigningKey>(write_public(path(), kPublic1));
  EXPECT_EQ(as_private.code, ErrorCode::invalid_argument);
  EXPECT_THAT(as_private.message, testing::HasSubstr("holds a public key"));
  const Error as_public = refusal<VerificationKey>(write_private(path(), kSeed1));
  EXPECT_EQ(as_public.code, ErrorCode::invalid_argument);
  EXPECT_THAT(as_public.message, testing::HasSubstr("holds a private key"));
}

TEST_F(KeyFile, KeysOfAnotherAlgorithmAreToldTheRightCommands) {
  // X25519: keys of the same length, for another purpose.
  for (const Error& error : {refusal<SigningKey>(write_private(path(), kSeed1, "6e")),
                             refusal<VerificationKey>(write_public(path(), kPublic1, "6e"))}) {
    EXPECT_EQ(error.code, ErrorCode::invalid_argument);
    EXPECT_THAT(error.message, testing::HasSubstr("openssl genpkey -algorithm ed25519"));
    EXPECT_THAT(error.message, testing::HasSubstr("-pubout"));
  }
}

TEST_F(KeyFile, RsaPublicKeyIsToldTheRightCommands) {
  write_text(path(),
             "-----BEGIN PUBLIC KEY-----\n"
             "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDLbaWAnRyizEX9wA8IGMkfq4Yp\n"
             "mR6XUnlkd0irmIn6mIU+PW9+jCWYpOkb0MUvyusnkvT05UTAmqptS1bioUzV26Cl\n"
             "vRPpm1Snfo2qQI7B0NfpwoKKg6mnpmdr3v/aCkzVl1xRGdzRWQU4my0qCNNGbOeg\n"
             "o8oYa5gJTPKoSZXIHwIDAQAB\n"
             "-----END PUBLIC KEY-----\n");
  const Error error = refusal<VerificationKey>(path());
  EXPECT_EQ(error.code, ErrorCode::invalid_argument);
  EXPECT_THAT(error.message, testing::HasSubstr("openssl genpkey -algorithm ed25519"));
}

TEST_F(KeyFile, EncryptedKeyIsRefusedAndNobodyIsAskedForAPassword) {
  write_text(path(),
             "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
             "MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhMaTxvexwaiQICCAAw\n"
             "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEG656IqFREdmqFx0CU6ehi4EQAIE\n"
             "eRgvl/97qVQaZwnB1QoaExrQYtf0qvcWaEa6GR2Nu8php1BKTrqj7gKeNyBiiEJg\n"
             "ZfWTbHqh9DmIBGvuFc0=\n"
             "-----END ENCRYPTED PRIVATE KEY-----\n");
  fs::permissions(path(), fs::perms::owner_read);
  const Error error = refusal<SigningKey>(path());
  EXPECT_EQ(error.code, ErrorCode::invalid_argument);
  EXPECT_THAT(error.message, testing::HasSubstr("is encrypted"));
}

TEST_F(KeyFile, WhatIsNoKeyAtAllIsRefused) {
  write_private(path(), kSeed1);
  for (const std::string_view text :
       {"", "hello\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\n*\n"}) {
    write_text(path(), text);
    EXPECT_EQ(refusal<SigningKey>(path()).code, ErrorCode::invalid_argument) << text;
    EXPECT_EQ(refusal<VerificationKey>(path()).code, ErrorCode::invalid_argument) << text;
  }
  fs::resize_file(path(), std::uintmax_t{1} << 30);
  EXPECT_THAT(refusal<SigningKey>(path()).message, testing::HasSubstr("1073741824 bytes"));
  EXPECT_EQ(refusal<SigningKey>(directory_.path()).code, ErrorCode::invalid_argument);
  ASSERT_EQ(mkfifo(path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(refusal<SigningKey>(path("pipe")).code, ErrorCode::invalid_argument);
}

/// Whether the command ended well; what it prints is dropped.
bool runs(const std::string& command) {
  return std::system((command + " >/dev/null 2>&1").c_str()) == 0;  // NOLINT(concurrency-mt-unsafe)
}

TEST_F(KeyFile, ThoseOfTheOpensslToolAreReadAndItVerifiesOurSignatures) {
  if (!runs("openssl version")) GTEST_SKIP() << "no openssl tool";
  const std::string at = directory_.path().string() + "/";
  ASSERT_TRUE(runs("openssl genpkey -algorithm ed25519 -out " + at + "key.pem"));
  ASSERT_TRUE(runs("openssl pkey -in " + at + "key.pem -pubout -out " + at + "key.pub"));
  const auto key = must(SigningKey::read_pem(path()));
  EXPECT_EQ(must(VerificationKey::read_pem(path("key.pub"))).fingerprint(), key.fingerprint());
  const std::string message = "what is signed";
  const Signature signature = must(key.sign(bytes_of(message)));
  write_text(path("message"), message);
  write_text(path("signature"), {reinterpret_cast<const char*>(signature.data()), signature.size()});
  const std::string verify = "openssl pkeyutl -verify -rawin -pubin -inkey " + at + "key.pub -sigfile " + at +
                             "signature -in " + at + "message";
  EXPECT_TRUE(runs(verify));
  write_text(path("message"), "something else");
  EXPECT_FALSE(runs(verify));
}

TEST_F(KeyFile, RsaPrivateKeyIsToldTheRightCommands) {
  if (!runs("openssl version")) GTEST_SKIP() << "no openssl tool";
  ASSERT_TRUE(runs("openssl genpkey -algorithm RSA -out " + path().string()));
  const Error error = refusal<SigningKey>(path());
  EXPECT_EQ(error.code, ErrorCode::invalid_argument);
  EXPECT_THAT(error.message, testing::HasSubstr("openssl genpkey -algorithm ed25519"));
}

}  // namespace
}  // namespace lutsmith::cache
