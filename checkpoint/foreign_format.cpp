#include "checkpoint/foreign_format.h"

#include <fmt/format.h>
#include <llvm/ADT/StringRef.h>

#include <algorithm>
#include <array>

#include "checkpoint/safetensors_format.h"

namespace lutsmith::checkpoint {
namespace {

using namespace std::string_view_literals;

constexpr const char* kPyTorch =
    "convert it with the Python packages torch and safetensors: save_file(torch.load(FILE, "
    "weights_only=True), "
    "'model.safetensors')";
constexpr const char* kNumPy = "convert it with the Python package safetensors: safetensors.numpy.save_file";
constexpr const char* kHdf5 =
    "load it with the framework it was made with and save it with the Python package safetensors";
constexpr const char* kUnpack = "unpack it first";
constexpr const char* kGguf =
    "give the original checkpoint, in safetensors format, and not one that was converted and mostly "
    "quantized too";
constexpr const char* kDownload = "a server answered so in place of the file; download it again";
constexpr const char* kJson =
    "the index of a checkpoint in several files has a name that ends in .json; anything else may be what a "
    "server "
    "answered in place of the file: download it again";

struct Signature {
  std::string_view bytes;
  const char* is;
  const char* what_to_do;
};

constexpr std::array kSignatures = {
    Signature{"version https://git-lfs.github.com/"sv, "a git-lfs pointer, not the file itself",
              "run `git lfs pull` where it was cloned"},
    Signature{"GGUF"sv, "a GGUF file", kGguf},
    Signature{"tjgg"sv, "a GGML file", kGguf},
    Signature{"\x80\x02"sv, "a Python pickle, as older PyTorch files are", kPyTorch},
    Signature{"\x80\x03"sv, "a Python pickle", kPyTorch},
    Signature{"\x80\x04"sv, "a Python pickle", kPyTorch},
    Signature{"\x80\x05"sv, "a Python pickle", kPyTorch},
    Signature{"\x93NUMPY"sv, "a NumPy array (.npy)", kNumPy},
    Signature{"\x89HDF\r\n\x1a\n"sv, "an HDF5 file", kHdf5},
    Signature{"\x1f\x8b"sv, "compressed with gzip", kUnpack},
    Signature{"\x28\xb5\x2f\xfd"sv, "compressed with Zstandard", kUnpack},
    Signature{"BZh"sv, "compressed with bzip2", kUnpack},
    Signature{"\xfd\x37zXZ\0"sv, "compressed with xz", kUnpack},
    Signature{"7z\xbc\xaf\x27\x1c"sv, "a 7z archive", kUnpack},
};

std::string sentence(std::string_view is, std::string_view what_to_do) {
  return fmt::format("is {}; {}", is, what_to_do);
}

/// Both PyTorch and NumPy write zip archives. The name of the first member tells which:
/// "PK\3\4", 22 bytes, 2 bytes length of the name, 2 bytes, name.
std::optional<std::string> recognize_zip(std::string_view bytes) {
  if (!bytes.starts_with("PK\3\4")) return std::nullopt;
  constexpr std::size_t kNameLengthAt = 26;
  constexpr std::size_t kNameAt = 30;
  std::string_view name;
  if (bytes.size() > kNameAt) {
    const auto length = static_cast<unsigned char>(bytes[kNameLengthAt]);
    name = bytes.substr(kNameAt, length);
  }
  if (name.ends_with(".npy")) return sentence("a NumPy archive (.npz)", kNumPy);
  const bool pytorch =
      name.ends_with("data.pkl") || name.ends_with("/version") || name.ends_with("/byteorder");
  if (pytorch) return sentence("a PyTorch file (.pt, .pth, .bin)", kPyTorch);
  return sentence("a zip archive",
                  "unpack it; if it is from PyTorch (.pt, .pth, .bin), " + std::string(kPyTorch));
}

/// Without control characters, such as the zeros in a header's length.
bool is_text(std::string_view bytes) {
  return std::ranges::none_of(
      bytes, [](unsigned char c) { return (c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f; });
}

bool is_ascii(std::string_view bytes) {
  return std::ranges::all_of(bytes, [](unsigned char c) { return c < 0x80; });
}

std::optional<std::string> recognize_text(std::string_view bytes) {
  if (bytes.starts_with("\xef\xbb\xbf")) bytes.remove_prefix(3);
  bytes.remove_prefix(std::min(bytes.find_first_not_of(" \t\r\n"), bytes.size()));
  // Long enough that the eight bytes of a header's length cannot pass for it.
  constexpr std::size_t kShortestText = 9;
  if (bytes.size() < kShortestText || !is_text(bytes)) return std::nullopt;
  const llvm::StringRef text(bytes);
  if (text.starts_with_insensitive("<!doctype html") || text.starts_with_insensitive("<html")) {
    return sentence("an HTML page", kDownload);
  }
  if (text.starts_with("<")) return sentence("an XML document", kDownload);
  if (text.starts_with("{") || text.starts_with("[")) return sentence("JSON text", kJson);
  if (!is_ascii(bytes)) return std::nullopt;
  constexpr std::size_t kShown = 60;
  const std::string_view line = bytes.substr(0, std::min(bytes.find_first_of("\r\n"), kShown));
  return sentence(fmt::format("text that begins with {}", shown_name(line)), kDownload);
}

/// A length below 4 GiB and the '{' of a header.
bool begins_like_safetensors(std::string_view bytes) {
  return bytes.size() > kLengthBytes && bytes[kLengthBytes] == '{' && bytes.substr(4, 4) == "\0\0\0\0"sv;
}

}  // namespace

std::optional<std::string> recognize_format(std::string_view first_bytes) {
  if (begins_like_safetensors(first_bytes)) return std::nullopt;
  if (first_bytes.empty()) return "is empty; copy or download it again";
  for (const Signature& signature : kSignatures) {
    if (first_bytes.starts_with(signature.bytes)) return sentence(signature.is, signature.what_to_do);
  }
  if (auto zip = recognize_zip(first_bytes)) return zip;
  if (auto text = recognize_text(first_bytes)) return text;
  if (first_bytes.size() == kBytesToRecognize &&
      first_bytes.find_first_not_of('\0') == std::string_view::npos) {
    return "begins with nothing but zeros, as a download does that is not complete; finish or repeat it";
  }
  return std::nullopt;
}

}  // namespace lutsmith::checkpoint
