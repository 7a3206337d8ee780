#include "core/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <string>

#include "expect_error.h"
#include "temporary_directory.h"

namespace lutsmith::core {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

Result<void> write_text(const fs::path& path, std::string_view text) {
  auto file = AtomicFile::create(path);
  if (!file) return std::unexpected(file.error());
  if (auto written = file->write(bytes_of(text)); !written) return written;
  return file->commit();
}

unsigned mode_of(const fs::path& path) {
  struct stat status{};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return status.st_mode & 07777;
}

/// The umask is the process's; back to what it was at the end.
class Umask {
 public:
  explicit Umask(mode_t mask) : before_(::umask(mask)) {}
  ~Umask() { ::umask(before_); }
  Umask(const Umask&) = delete;
  Umask& operator=(const Umask&) = delete;

 private:
  mode_t before_;
};

TEST(AtomicFile, PiecesInAnyOrderMakeOneFile) {
  const TemporaryDirectory directory;
  auto file = AtomicFile::create(directory.path() / "file");
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_TRUE(file->reserve(6));
  ASSERT_TRUE(file->write_at(4, bytes_of("ef")));
  ASSERT_TRUE(file->write(bytes_of("ab")));
  ASSERT_TRUE(file->write(bytes_of("cd")));
  ASSERT_TRUE(file->commit());
  EXPECT_EQ(file_bytes(directory.path() / "file"), "abcdef");
  EXPECT_THAT(directory.names(), ElementsAre("file"));
}

TEST(AtomicFile, WithoutCommitTheOldFileIsThereAndNothingElse) {
  const TemporaryDirectory directory;
  const auto path = directory.write("file", "old");
  {
    auto file = AtomicFile::create(path);
    ASSERT_TRUE(file) << file.error().message;
    ASSERT_TRUE(file->write(bytes_of("new")));
    EXPECT_EQ(file_bytes(path), "old");
  }
  EXPECT_EQ(file_bytes(path), "old");
  EXPECT_THAT(directory.names(), ElementsAre("file"));
}

/// Whether the file system has files without a name that can be given one.
bool has_unnamed_files(const TemporaryDirectory& directory) {
  const int file = ::open(directory.path().c_str(), O_WRONLY | O_TMPFILE, 0600);
  if (file < 0) return false;
  const fs::path name = directory.path() / "named";
  const bool linked = ::linkat(AT_FDCWD, fmt::format("/proc/self/fd/{}", file).c_str(), AT_FDCWD,
                               name.c_str(), AT_SYMLINK_FOLLOW) == 0;
  ::close(file);
  ::unlink(name.c_str());
  return linked;
}

TEST(AtomicFile, AKilledProcessLeavesNothingBehind) {
  const TemporaryDirectory directory;
  // Where files cannot be without a name, only a handled signal can be cleaned up after.
  if (!has_unnamed_files(directory)) GTEST_SKIP() << "the file system has no files without a name";
  const auto path = directory.write("file", "old");
  const pid_t writer = ::fork();
  if (writer == 0) {
    auto file = AtomicFile::create(path);
    if (file && file->write(bytes_of("new"))) ::raise(SIGKILL);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(writer, &status, 0), writer);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_THAT(directory.names(), ElementsAre("file"));
  EXPECT_EQ(file_bytes(path), "old");
}

TEST(AtomicFile, RemovingScratchLeavesNoTemporary) {
  const TemporaryDirectory directory;
  auto file = AtomicFile::create(directory.path() / "file");
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_TRUE(file->write(bytes_of("new")));
  static_cast<void>(remove_scratch());
  EXPECT_THAT(directory.names(), IsEmpty());
}

/// Without /proc a file cannot get its name late, as on the file systems that cannot make one without a name:
/// what `work` returns, from a forked copy that has no /proc; nothing where that may not be had.
template <class Work>
std::optional<int> where_files_need_a_name(const Work& work) {
  constexpr int kNotAllowed = 100;
  const pid_t copy = ::fork();
  if (copy == 0) {
    const bool hidden = ::unshare(CLONE_NEWNS) == 0 &&
                        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                        ::mount("none", "/proc", "tmpfs", 0, nullptr) == 0;
    ::_exit(hidden ? work() : kNotAllowed);
  }
  int status = 0;
  ::waitpid(copy, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kNotAllowed) return std::nullopt;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(AtomicFile, ANamedTemporaryIsGivenItsNameOrRemoved) {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "file";
  const auto status = where_files_need_a_name([&] {
    {
      auto dropped = AtomicFile::create(path);
      if (!dropped || directory.names().size() != 1) return 1;
    }
    if (!directory.names().empty()) return 2;
    if (!write_text(path, "first") || !write_text(path, "second")) return 3;
    auto ended = AtomicFile::create(path);
    if (!ended || directory.names().size() != 2) return 4;
    static_cast<void>(remove_scratch());
    return directory.names().size() == 1 ? 0 : 5;
  });
  if (!status) GTEST_SKIP() << "needs a mount namespace";
  EXPECT_EQ(status, 0);
  EXPECT_EQ(file_bytes(path), "second");
}

TEST(AtomicFile, AForkedCopyDoesNotTakeTheFileAway) {
  const TemporaryDirectory directory;
  const auto path = directory.write("file", "old");
  auto file = AtomicFile::create(path);
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_TRUE(file->write(bytes_of("new")));
  const pid_t copy = ::fork();
  if (copy == 0) {
    {
      const AtomicFile taken = *std::move(file);
    }
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(copy, &status, 0), copy);
  ASSERT_TRUE(file->commit());
  EXPECT_EQ(file_bytes(path), "new");
  EXPECT_THAT(directory.names(), ElementsAre("file"));
}

TEST(AtomicFile, ANewFileHasTheModeThatTheUmaskLeaves) {
  const TemporaryDirectory directory;
  const Umask mask(027);
  ASSERT_TRUE(write_text(directory.path() / "file", "new"));
  EXPECT_EQ(mode_of(directory.path() / "file"), 0640U);
}

TEST(AtomicFile, AReplacedFileKeepsItsMode) {
  const TemporaryDirectory directory;
  const auto path = directory.write("file", "old");
  for (const mode_t mode : {0600U, 0664U, 0444U, 0751U}) {
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    ASSERT_TRUE(write_text(path, "new"));
    EXPECT_EQ(mode_of(path), mode);
  }
}

TEST(AtomicFile, AReplacedProgramDoesNotHandOnItsUserToNewContents) {
  const TemporaryDirectory directory;
  const auto path = directory.write("file", "old");
  for (const mode_t mode : {04755U, 02755U, 06711U, 01644U}) {
    ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    ASSERT_EQ(mode_of(path), mode);
    ASSERT_TRUE(write_text(path, "new"));
    EXPECT_EQ(mode_of(path), mode & 0777U);
  }
}

TEST(AtomicFile, AReplacedFileKeepsItsOwner) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  const TemporaryDirectory directory;
  const auto path = directory.write("file", "old");
  ASSERT_EQ(::chown(path.c_str(), 1234, 2345), 0);
  ASSERT_TRUE(write_text(path, "new"));
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 1234U);
  EXPECT_EQ(status.st_gid, 2345U);
}

TEST(AtomicFile, ASymbolicLinkStaysAndItsFileIsReplaced) {
  const TemporaryDirectory directory;
  fs::create_directories(directory.path() / "links");
  fs::create_directories(directory.path() / "data");
  directory.write("data/file", "old");
  ASSERT_EQ(::chmod((directory.path() / "data" / "file").c_str(), 0640), 0);
  fs::create_symlink("../data/file", directory.path() / "links" / "relative");
  fs::create_symlink(directory.path() / "links" / "relative", directory.path() / "links" / "chain");
  for (const char* name : {"relative", "chain"}) {
    ASSERT_TRUE(write_text(directory.path() / "links" / name, name));
    EXPECT_TRUE(fs::is_symlink(directory.path() / "links" / name));
    EXPECT_EQ(file_bytes(directory.path() / "data" / "file"), name);
    EXPECT_FALSE(fs::is_symlink(directory.path() / "data" / "file"));
    EXPECT_EQ(mode_of(directory.path() / "data" / "file"), 0640U);
  }
}

TEST(AtomicFile, ASymbolicLinkToAFileThatIsNotThereYetMakesIt) {
  const TemporaryDirectory directory;
  fs::create_directories(directory.path() / "data");
  fs::create_symlink("data/file", directory.path() / "link");
  ASSERT_TRUE(write_text(directory.path() / "link", "new"));
  EXPECT_TRUE(fs::is_symlink(directory.path() / "link"));
  EXPECT_EQ(file_bytes(directory.path() / "data" / "file"), "new");
}

TEST(AtomicFile, ASymbolicLinkThatLeadsNowhereIsAnError) {
  const TemporaryDirectory directory;
  fs::create_symlink("b", directory.path() / "a");
  fs::create_symlink("a", directory.path() / "b");
  fs::create_symlink("missing/file", directory.path() / "c");
  expect_error(write_text(directory.path() / "a", "x"), ErrorCode::io_error,
               "a: cannot follow the symbolic link");
  expect_error(write_text(directory.path() / "c", "x"), ErrorCode::not_found, "missing/file");
  EXPECT_THAT(directory.names(), ElementsAre("a", "b", "c"));
}

TEST(AtomicFile, AFileLargerThanTheLimitIsRefusedAtOnceAndLeavesNothing) {
  const TemporaryDirectory directory;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{4096, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  {
    auto file = AtomicFile::create(directory.path() / "file");
    ASSERT_TRUE(file) << file.error().message;
    expect_error(file->reserve(100'000), ErrorCode::io_error, "file: cannot write 100000 bytes",
                 "File too large");
    expect_error(file->write(bytes_of(std::string(100'000, 'x'))), ErrorCode::io_error, "File too large");
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(directory.names(), IsEmpty());
}

}  // namespace
}  // namespace lutsmith::core
