#include "checkpoint/foreign_format.h"

#include <array>

#include "expect_error.h"
#include "lutsmith/safetensors.h"
#include "temporary_directory.h"

namespace lutsmith {
namespace {

struct Foreign {
  const char* name;
  std::string bytes;
  std::vector<std::string> said;
};

std::string zip_with(const std::string& member) {
  std::string header("PK\3\4\x14\0\0\0\0\0", 10);
  header.resize(26);
  header += static_cast<char>(member.size());
  header += std::string(3, '\0');
  return header + member + std::string(100, '\1');
}

std::vector<Foreign> foreign_files() {
  const std::string rest(600, '\1');
  return {
      {"Empty", "", {"is empty"}},
      {"LfsPointer",
       "version https://git-lfs.github.com/spec/v1\noid sha256:0123456789abcdef\nsize 4976698672\n",
       {"a git-lfs pointer, not the file itself", "git lfs pull"}},
      {"HtmlPage",
       "<!DOCTYPE html><html><head><title>404</title></head></html>\n",
       {"an HTML page", "download"}},
      {"HtmlInCapitals", "\n  <HTML><BODY>Access denied</BODY></HTML>", {"an HTML page"}},
      {"XmlOfAServer",
       "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>",
       {"XML", "download"}},
      {"Json", R"({"error": "Repository not found"})", {"JSON"}},
      {"JsonAfterAByteOrderMark", "\xef\xbb\xbf{\"error\": \"not found\"}", {"JSON"}},
      {"Text", "Invalid username or password.\nmore\n", {"'Invalid username or password.'", "download"}},
      {"Gguf", std::string("GGUF\3\0\0\0", 8) + std::string(16, '\0'), {"a GGUF file", "safetensors"}},
      {"PyTorch", zip_with("archive/data.pkl"), {"a PyTorch file", "save_file(torch.load("}},
      {"NumPyArchive", zip_with("weight.npy"), {"a NumPy archive"}},
      {"Zip", zip_with("readme.txt"), {"a zip archive", "PyTorch"}},
      {"ZipCutOff", "PK\3\4\x14", {"a zip archive"}},
      {"Pickle", "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19." + rest, {"a Python pickle", "torch.load"}},
      {"NumPy", "\x93NUMPY\x01" + rest, {"a NumPy array"}},
      {"Hdf5", "\x89HDF\r\n\x1a\n" + rest, {"an HDF5 file"}},
      {"Gzip", "\x1f\x8b\x08" + rest, {"gzip", "unpack"}},
      {"Zstandard", "\x28\xb5\x2f\xfd" + rest, {"Zstandard", "unpack"}},
      {"Zeros", std::string(4096, '\0'), {"nothing but zeros", "download"}},
  };
}

class ForeignFile : public testing::TestWithParam<Foreign> {};

TEST_P(ForeignFile, IsNamedAsWhatItIs) {
  const TemporaryDirectory directory;
  const auto file = SafetensorsFile::open(directory.write("model.safetensors", GetParam().bytes));
  for (const std::string& text : GetParam().said) {
    expect_error(file, ErrorCode::corrupt_data, "model.safetensors: ", text);
  }
  EXPECT_THAT(file.error().message, testing::Not(testing::HasSubstr("header")));
}

INSTANTIATE_TEST_SUITE_P(Formats, ForeignFile, testing::ValuesIn(foreign_files()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(ForeignFormat, TheBeginningOfASafetensorsFileIsNone) {
  // Lengths whose first byte is '{', '<', a blank or a letter.
  for (const char length : {'{', '<', ' ', 'V', 'P', '\x1f', '\x80'}) {
    std::string bytes(1, length);
    bytes += std::string("\2\0\0\0\0\0\0", 7);
    bytes += R"({"a.weight":{"dtype":"F16","shape":[4,)";
    EXPECT_EQ(checkpoint::recognize_format(bytes), std::nullopt) << length;
  }
}

TEST(ForeignFormat, TextOfAServerCannotSteerATerminal) {
  EXPECT_EQ(checkpoint::recognize_format("\x1b[2Jhello, this is an answer"), std::nullopt);
}

}  // namespace
}  // namespace lutsmith
