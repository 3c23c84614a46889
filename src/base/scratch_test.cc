#include "base/scratch.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

TEST(Scratch, KeepsItsBytesWhenPagesAreLetGoAndLeavesNoFile) {
  const fs::path folder = fs::temp_directory_path() / ("tsubu-scratch-test-" + std::to_string(getpid()));
  fs::create_directory(folder);
  for (const std::string& where : {std::string(), folder.string()}) {
    ScratchMemory memory(100'000, where);
    ASSERT_EQ(memory.bytes().size(), 100'000u);
    for (size_t i = 0; i < 100'000; ++i) {
      ASSERT_EQ(memory.bytes()[i], std::byte{0});
      memory.bytes()[i] = static_cast<std::byte>(i * 7);
    }
    ScratchMemory moved(std::move(memory));
    release_mapped(moved.bytes());
    for (size_t i = 0; i < 100'000; ++i) ASSERT_EQ(moved.bytes()[i], static_cast<std::byte>(i * 7)) << where;
    EXPECT_TRUE(fs::is_empty(folder));
  }
  fs::remove_all(folder);
}

TEST(Scratch, SaysWhereItHasNoRoom) {
  try {
    ScratchMemory(10, "/nonexistent");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kIo);
    EXPECT_NE(std::string(error.what()).find("/nonexistent"), std::string::npos);
  }
}

}  // namespace
}  // namespace tsubu
