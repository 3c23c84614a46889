// The digest of a file that is still being written is that of the whole file, whatever the pace and however late the header.
#include "pipeline/output_digest.h"

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace tsubu {
namespace {

struct Growing {
  std::string path = (std::filesystem::temp_directory_path() / "tsubu_output_digest_test").string();
  std::ofstream file{path, std::ios::binary | std::ios::trunc};
  uint64_t size = 0;
  ~Growing() { std::filesystem::remove(path); }
  void add(std::string_view text) {
    file << text << std::flush;
    size += text.size();
  }
};

TEST(OutputDigest, IsThatOfTheWholeFileUnderItsLateHeader) {
  Growing out;
  out.add("????????");  // the header's room
  std::mutex known;
  known.lock();
  OutputDigest digest(out.path, [&] { return std::lock_guard(known), std::string("a header"); }, [] {});
  std::string all = "a header";
  for (int i = 0; i < 40; ++i) {
    const std::string part(static_cast<size_t>(1 + 7919 * i), static_cast<char>('a' + i % 26));
    out.add(part);
    all += part;
    digest.advance(out.size);
    if (i == 20) {
      EXPECT_TRUE(digest.is_behind());  // waits for the header
      known.unlock();
      EXPECT_EQ(digest.header(), "a header");
    }
  }
  const FileDigest result = digest.finish();
  EXPECT_EQ(result.size_bytes, all.size());
  EXPECT_EQ(result.sha256, sha256_of(all));
}

TEST(OutputDigest, SaysWhatTheHeaderThrew) {
  Growing out;
  OutputDigest digest(out.path, []() -> std::string { fail(ExitCode::kIo, "no input"); }, [] {});
  EXPECT_THROW(digest.header(), Error);
  EXPECT_THROW(digest.finish(), Error);
}

TEST(OutputDigest, FailsOnAFileThatIsShorterThanItWasTold) {
  Growing out;
  out.add("????");
  OutputDigest digest(out.path, [] { return std::string("head"); }, [] {});
  digest.advance(1000);
  EXPECT_THROW(digest.finish(), Error);
}

TEST(OutputDigest, GivesUpWaitingWhenItIsNotWanted) {
  Growing out;
  std::atomic<bool> gave_up = false;
  {
    OutputDigest digest(out.path, [&] {
      while (!gave_up) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return std::string("late");
    }, [&] { gave_up = true; });
  }
  EXPECT_TRUE(gave_up);
}

}  // namespace
}  // namespace tsubu
