// Replays the corpus of the layouts' fuzz target, and damaged copies of it: nothing but tsubu::Error may escape.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "base/file.h"
#include "base/progress.h"
#include "checkpoint/layout_fuzz_body.h"

namespace tsubu {
namespace {

TEST(FuzzCorpus, Layouts) {
  set_quiet(true);
  size_t n_files = 0, n_valid = 0, n_modules = 0;
  std::mt19937 random(7);
  for (const auto& file : std::filesystem::directory_iterator(TSUBU_SOURCE_DIR "/tests/fuzz/layouts")) {
    SCOPED_TRACE(file.path().string());
    const std::string text = read_text_file(file.path().string());
    const size_t found = try_layout(std::as_bytes(std::span(text)));
    n_modules += found;
    n_valid += found > 0;
    ++n_files;
    for (size_t length = 0; length < text.size(); length += 1 + length / 8)
      (void)try_layout(std::as_bytes(std::span(text.data(), length)));
    for (int i = 0; i < 200; ++i) {
      std::string damaged = text;
      for (int k = 0; k <= i % 4; ++k) damaged[random() % damaged.size()] = static_cast<char>(random() % 256);
      (void)try_layout(std::as_bytes(std::span(damaged)));
    }
  }
  EXPECT_GE(n_valid, 10u);
  EXPECT_GT(n_files, n_valid);
  EXPECT_GE(n_modules, n_valid);
}

}  // namespace
}  // namespace tsubu
