// Files: mapping, and outputs that appear whole or not at all.
#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "base/error.h"
#include "base/hash.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  FileTest() {
    std::string pattern = (fs::temp_directory_path() / "tsubu-test-XXXXXX").string();
    if (!mkdtemp(pattern.data())) throw std::runtime_error("cannot make a temporary folder");
    folder_ = pattern;
  }
  ~FileTest() override {
    std::error_code ec;
    fs::remove_all(folder_, ec);
  }
  std::string at(const char* name) const { return (folder_ / name).string(); }
  bool folder_is_empty() const { return fs::is_empty(folder_); }

  fs::path folder_;
};

template <class F>
void expect_error(ExitCode code, F&& f) {
  try {
    f();
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
  }
}

TEST_F(FileTest, AppearsOnlyAtCommit) {
  AtomicFile file(at("a"));
  file.write("abc");
  EXPECT_FALSE(fs::exists(at("a")));
  file.commit();
  EXPECT_EQ(read_text_file(at("a")), "abc");
  EXPECT_FALSE(fs::exists(AtomicFile::temporary_name(at("a"))));
}

TEST_F(FileTest, NothingIsLeftAfterAnException) {
  EXPECT_THROW({
    AtomicFile file(at("a"));
    file.write(std::string(3 << 20, 'x'));
    throw std::runtime_error("in between");
  }, std::runtime_error);
  EXPECT_TRUE(folder_is_empty());
}

TEST_F(FileTest, AnOldFileSurvivesUntilCommit) {
  write_text_file(at("a"), "old");
  {
    AtomicFile file(at("a"));
    file.write("new");
  }
  EXPECT_EQ(read_text_file(at("a")), "old");
  write_text_file(at("a"), "new");
  EXPECT_EQ(read_text_file(at("a")), "new");
}

TEST_F(FileTest, PaddingAndOverwriting) {
  AtomicFile file(at("a"));
  file.write("abc");
  file.pad_to(8);
  file.pad_to(8);
  EXPECT_EQ(file.size(), 8u);
  file.write(std::string(2 << 20, 'y'));  // larger than any buffer
  file.write("z");
  file.write_at(1, std::as_bytes(std::span("XY", 2)));
  file.write("end");
  file.commit();
  EXPECT_EQ(read_text_file(at("a")), std::string("aXY\0\0\0\0\0", 8) + std::string(2 << 20, 'y') + "zend");
}

TEST_F(FileTest, LeftoversAreFoundAndReplaced) {
  write_text_file(AtomicFile::temporary_name(at("a")), "a leftover, longer than what follows");
  AtomicFile file(at("a"));
  EXPECT_TRUE(file.found_leftover());
  file.write("new");
  file.commit();
  EXPECT_EQ(read_text_file(at("a")), "new");
  EXPECT_FALSE(AtomicFile(at("b")).found_leftover());
}

// A file-size limit stands for a full disk: write() fails in the middle.
TEST_F(FileTest, AFailedWriteIsAnErrorAndLeavesNothing) {
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1 << 20, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_error(ExitCode::kIo, [&] { write_text_file(at("a"), std::string(4 << 20, 'x')); });
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_TRUE(folder_is_empty());
}

TEST_F(FileTest, UnwritablePlacesAreIoErrors) {
  expect_error(ExitCode::kIo, [&] { AtomicFile file(at("no/such/folder")); });
  expect_error(ExitCode::kIo, [&] { AtomicFile file(folder_.string()); });
  write_text_file(at("plain"), "x");
  expect_error(ExitCode::kIo, [&] { AtomicFile file(at("plain/below a file")); });
  if (geteuid() == 0) return;  // permissions do not stop root
  fs::permissions(folder_, fs::perms::owner_read | fs::perms::owner_exec);
  expect_error(ExitCode::kIo, [&] { AtomicFile file(at("b")); });
  fs::permissions(folder_, fs::perms::owner_all);
}

TEST_F(FileTest, MapsWholeFiles) {
  write_text_file(at("a"), std::string(10000, 'q') + "!");
  MappedFile file(at("a"));
  ASSERT_EQ(file.bytes().size(), 10001u);
  MappedFile moved(std::move(file));
  EXPECT_EQ(moved.bytes()[10000], std::byte{'!'});
  EXPECT_EQ(moved.path(), at("a"));
  moved.sequential();
  moved.will_need(5000, 1 << 20);
  moved.release(0, 1 << 20);
  moved.release(1 << 20, 1);
  EXPECT_EQ(moved.bytes()[0], std::byte{'q'});  // dropped pages come back from the file
}

TEST_F(FileTest, MappingErrors) {
  expect_error(ExitCode::kIo, [&] { MappedFile file(at("absent")); });
  expect_error(ExitCode::kBadInput, [&] { MappedFile file(folder_.string()); });
  expect_error(ExitCode::kBadInput, [&] { MappedFile file("/dev/null"); });
  write_text_file(at("empty"), "");
  EXPECT_TRUE(MappedFile(at("empty")).bytes().empty());
  EXPECT_EQ(read_text_file(at("empty")), "");
  write_text_file(at("five"), "12345");
  expect_error(ExitCode::kBadInput, [&] { read_text_file(at("five"), 4); });
}

TEST_F(FileTest, SameFileAndHash) {
  write_text_file(at("a"), "x");
  fs::create_symlink(at("a"), at("link"));
  write_text_file(at("b"), "x");
  EXPECT_TRUE(same_file(at("a"), at("link")));
  EXPECT_FALSE(same_file(at("a"), at("b")));
  EXPECT_FALSE(same_file(at("a"), at("absent")));
  EXPECT_EQ(hash_file(at("a")), hash_file(at("b")));
  EXPECT_EQ(hash_bytes({}), "2d06800538d394c2");  // XXH3-64 of nothing, from the xxHash specification
}

}  // namespace
}  // namespace tsubu
