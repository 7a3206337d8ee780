#include "cache/bundles/signing.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <llvm/ADT/ArrayRef.h>
#include <llvm/ADT/StringExtras.h>
#include <llvm/Support/SHA256.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "core/descriptor.h"
#include "core/shared_library.h"

namespace lutsmith::cache {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMakePrivate = "openssl genpkey -algorithm ed25519 -out key.pem";
constexpr std::string_view kMakePublic = "openssl pkey -in key.pem -pubout -out key.pub";
constexpr off_t kMaxKeyFileBytes = 64 << 10;

/// The functions used of OpenSSL. Only those that 1.1.1 and 3 export under the same name.
struct Crypto {
  decltype(BIO_new_mem_buf)* new_buffer = nullptr;
  decltype(BIO_free)* free_buffer = nullptr;
  decltype(PEM_read_bio_PrivateKey)* read_private = nullptr;
  decltype(PEM_read_bio_PUBKEY)* read_public = nullptr;
  decltype(i2d_PUBKEY)* write_public = nullptr;
  decltype(EVP_PKEY_free)* free_key = nullptr;
  decltype(EVP_MD_CTX_new)* new_context = nullptr;
  decltype(EVP_MD_CTX_free)* free_context = nullptr;
  decltype(EVP_DigestSignInit)* begin_sign = nullptr;
  decltype(EVP_DigestSign)* sign = nullptr;
  decltype(EVP_DigestVerifyInit)* begin_verify = nullptr;
  decltype(EVP_DigestVerify)* verify = nullptr;
  decltype(CRYPTO_free)* free_memory = nullptr;
  decltype(OPENSSL_cleanse)* wipe = nullptr;
  decltype(ERR_clear_error)* clear_errors = nullptr;

  static Result<Crypto> open();
};

Result<Crypto> Crypto::open() {
  Result<core::SharedLibrary> library = core::SharedLibrary::open(
      {"libcrypto.so.3", "libcrypto.so.1.1"}, "sign bundles and check signatures", "libssl3");
  if (!library) return std::unexpected(std::move(library.error()));
  Crypto crypto;
  library->load("BIO_new_mem_buf", crypto.new_buffer);
  library->load("BIO_free", crypto.free_buffer);
  library->load("PEM_read_bio_PrivateKey", crypto.read_private);
  library->load("PEM_read_bio_PUBKEY", crypto.read_public);
  library->load("i2d_PUBKEY", crypto.write_public);
  library->load("EVP_PKEY_free", crypto.free_key);
  library->load("EVP_MD_CTX_new", crypto.new_context);
  library->load("EVP_MD_CTX_free", crypto.free_context);
  library->load("EVP_DigestSignInit", crypto.begin_sign);
  library->load("EVP_DigestSign", crypto.sign);
  library->load("EVP_DigestVerifyInit", crypto.begin_verify);
  library->load("EVP_DigestVerify", crypto.verify);
  library->load("CRYPTO_free", crypto.free_memory);
  library->load("OPENSSL_cleanse", crypto.wipe);
  library->load("ERR_clear_error", crypto.clear_errors);
  if (Result<void> complete = library->complete(); !complete) {
    return std::unexpected(std::move(complete.error()));
  }
  return crypto;
}

const Result<Crypto>& crypto() {
  static const Result<Crypto> opened = Crypto::open();
  return opened;
}

std::unexpected<Error> refused(std::string message) {
  return std::unexpected(Error{ErrorCode::invalid_argument, std::move(message), ""});
}

enum class Half { private_key, public_key };

/// What a key file holds; overwritten when no longer needed, as it may be a secret.
class KeyText {
 public:
  static Result<KeyText> read(const fs::path& path, Half half);
  KeyText(KeyText&&) noexcept = default;
  KeyText& operator=(KeyText&&) = delete;
  ~KeyText() { crypto()->wipe(bytes_.data(), bytes_.size()); }

  std::string_view text() const { return {bytes_.data(), bytes_.size()}; }

 private:
  explicit KeyText(std::size_t size) : bytes_(size) {}
  std::vector<char> bytes_;
};

Result<KeyText> KeyText::read(const fs::path& path, Half half) {
  // O_NONBLOCK: opening a pipe must not wait for a writer.
  const core::Descriptor file(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file.valid()) {
    if (errno != ENOENT) return std::unexpected(core::system_error(errno, "open the key", path));
    return std::unexpected(Error{ErrorCode::not_found,
                                 fmt::format("there is no key {}; make one by: {}", path.native(),
                                             half == Half::private_key ? kMakePrivate : kMakePublic),
                                 ""});
  }
  struct stat status{};
  if (fstat(file.number(), &status) != 0) return std::unexpected(core::system_error(errno, "inspect", path));
  if (!S_ISREG(status.st_mode))
    return refused(fmt::format("the key {} is not a regular file", path.native()));
  if (half == Half::private_key && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return refused(
        fmt::format("other users can reach the private key {0} (mode {1:04o}): make it yours alone by: "
                    "chmod 600 {0}",
                    path.native(), status.st_mode & 07777U));
  }
  if (status.st_size > kMaxKeyFileBytes) {
    return refused(fmt::format("{} has {} bytes, no key has more than {}", path.native(), status.st_size,
                               kMaxKeyFileBytes));
  }
  KeyText key(static_cast<std::size_t>(status.st_size));
  std::size_t done = 0;
  while (done < key.bytes_.size()) {
    const ssize_t count = ::read(file.number(), key.bytes_.data() + done, key.bytes_.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return std::unexpected(core::system_error(errno, "read the key", path));
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  key.bytes_.resize(done);
  return key;
}

/// Called by OpenSSL where a key is encrypted. A library must not talk to the terminal.
int refuse_password(char* /*buffer*/, int /*size*/, int /*writing*/, void* asked) {
  *static_cast<bool*>(asked) = true;
  return -1;
}

/// What a file of the wrong kind gets told.
std::string no_such_key(const fs::path& path, std::string_view text, Half half, bool encrypted) {
  const auto holds = [&](std::string_view label) { return text.find(label) != std::string_view::npos; };
  if (half == Half::public_key) {
    const std::string_view given =
        holds("PRIVATE KEY-----") ? "holds a private key, and a public one is wanted" : "holds no public key";
    return fmt::format("{} {}; write the public half of a private key by: {}", path.native(), given,
                       kMakePublic);
  }
  if (encrypted) {
    return fmt::format(
        "the private key {0} is encrypted, and no password is asked for here; decrypt it by: "
        "openssl pkey -in {0} -out plain.pem",
        path.native());
  }
  const std::string_view given =
      holds("PUBLIC KEY-----") ? "holds a public key, and the private one is wanted" : "holds no private key";
  return fmt::format("{} {}; make a private key by: {}", path.native(), given, kMakePrivate);
}

/// The fingerprint, or nothing where the key is for another algorithm. All Ed25519 keys have the same
/// SubjectPublicKeyInfo (RFC 8410) up to the 32 bytes of the key itself, and no other has it.
std::optional<std::string> fingerprint_of(const evp_pkey_st& key) {
  constexpr std::array<std::uint8_t, 12> kPrefix = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03,
                                                    0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};
  constexpr std::size_t kPublicKeyBytes = 32;
  unsigned char* encoded = nullptr;
  const int size = crypto()->write_public(&key, &encoded);
  if (size <= 0) return std::nullopt;
  std::optional<std::string> fingerprint;
  const llvm::ArrayRef bytes(encoded, static_cast<std::size_t>(size));
  if (bytes.size() == kPrefix.size() + kPublicKeyBytes && bytes.take_front(kPrefix.size()).equals(kPrefix)) {
    fingerprint = llvm::toHex(llvm::SHA256::hash(bytes.drop_front(kPrefix.size())), /*LowerCase=*/true);
  }
  crypto()->free_memory(encoded, __FILE__, __LINE__);
  return fingerprint;
}

struct LoadedKey {
  KeyHandle handle;
  std::string fingerprint;
};

Result<LoadedKey> load(const fs::path& path, Half half) {
  if (!crypto()) return std::unexpected(crypto().error());
  const Result<KeyText> file = KeyText::read(path, half);
  if (!file) return std::unexpected(file.error());
  const std::string_view text = file->text();
  // OpenSSL takes no null, which an empty text may be.
  BIO* buffer = crypto()->new_buffer(text.empty() ? "" : text.data(), static_cast<int>(text.size()));
  if (buffer == nullptr) return std::unexpected(Error{ErrorCode::out_of_memory, "no memory for a key", ""});
  bool encrypted = false;
  const auto read = half == Half::private_key ? crypto()->read_private : crypto()->read_public;
  KeyHandle key(read(buffer, nullptr, refuse_password, &encrypted));
  crypto()->free_buffer(buffer);
  crypto()->clear_errors();  // the thread's own list: what OpenSSL says is told in other words
  if (key == nullptr) return refused(no_such_key(path, text, half, encrypted));
  std::optional<std::string> fingerprint = fingerprint_of(*key);
  crypto()->clear_errors();
  if (!fingerprint) {
    return refused(
        fmt::format("the key {} is not for Ed25519, the one algorithm used here; make a pair by: "
                    "{} && {}",
                    path.native(), kMakePrivate, kMakePublic));
  }
  return LoadedKey{.handle = std::move(key), .fingerprint = *std::move(fingerprint)};
}

struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { crypto()->free_context(context); }
};
using Context = std::unique_ptr<EVP_MD_CTX, FreeContext>;

const unsigned char* raw(const std::byte* bytes) { return reinterpret_cast<const unsigned char*>(bytes); }

}  // namespace

void FreeKey::operator()(evp_pkey_st* key) const { crypto()->free_key(key); }

Result<VerificationKey> VerificationKey::read_pem(const fs::path& path) {
  Result<LoadedKey> key = load(path, Half::public_key);
  if (!key) return std::unexpected(std::move(key.error()));
  return VerificationKey(std::move(key->handle), std::move(key->fingerprint));
}

Result<void> VerificationKey::verify(std::span<const std::byte> bytes, const Signature& signature) const {
  const Context context(crypto()->new_context());
  const bool good = context != nullptr &&
                    crypto()->begin_verify(context.get(), nullptr, nullptr, nullptr, key_.get()) == 1 &&
                    crypto()->verify(context.get(), raw(signature.data()), signature.size(),
                                     raw(bytes.data()), bytes.size()) == 1;
  crypto()->clear_errors();
  if (good) return {};
  return std::unexpected(
      Error{ErrorCode::corrupt_data,
            fmt::format("the signature is not one of the key {} over these bytes", fingerprint_), ""});
}

Result<SigningKey> SigningKey::read_pem(const fs::path& path) {
  Result<LoadedKey> key = load(path, Half::private_key);
  if (!key) return std::unexpected(std::move(key.error()));
  return SigningKey(std::move(key->handle), std::move(key->fingerprint));
}

Result<Signature> SigningKey::sign(std::span<const std::byte> bytes) const {
  const Context context(crypto()->new_context());
  Signature signature{};
  std::size_t size = signature.size();
  const bool good = context != nullptr &&
                    crypto()->begin_sign(context.get(), nullptr, nullptr, nullptr, key_.get()) == 1 &&
                    crypto()->sign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                                   raw(bytes.data()), bytes.size()) == 1 &&
                    size == signature.size();
  crypto()->clear_errors();
  if (good) return signature;
  return std::unexpected(
      Error{ErrorCode::unsupported,
            "OpenSSL cannot sign with Ed25519 here; its configuration may forbid it (FIPS mode)", ""});
}

}  // namespace lutsmith::cache
