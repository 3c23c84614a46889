// Replays the corpus of the fuzz targets: nothing but tsubu::Error may escape.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/file.h"
#include "text/fuzz_bodies.h"

namespace tsubu {
namespace {

struct Counts {
  size_t files = 0, valid = 0;
};

Counts replay(const std::string& name, bool (*is_valid)(std::span<const std::byte>)) {
  Counts counts;
  for (const auto& file : std::filesystem::directory_iterator(TSUBU_SOURCE_DIR "/tests/fuzz/" + name)) {
    SCOPED_TRACE(file.path().string());
    const std::string text = read_text_file(file.path().string());
    counts.valid += is_valid(std::as_bytes(std::span(text)));
    ++counts.files;
  }
  return counts;
}

TEST(FuzzCorpus, SentencePiece) {
  const auto [files, valid] = replay("sentencepiece", try_sentencepiece);
  EXPECT_GT(valid, 1u);
  EXPECT_GT(files, valid);
}

TEST(FuzzCorpus, TokenizerJson) {
  const auto [files, valid] = replay("tokenizer_json", try_tokenizer_json);
  EXPECT_GT(valid, 1u);
  EXPECT_GT(files, valid);
}

TEST(FuzzCorpus, TokenizerText) {
  const auto [files, valid] = replay("tokenizer_text", try_tokenizer_text);
  EXPECT_GT(files, 10u);
  EXPECT_EQ(files, valid);
}

}  // namespace
}  // namespace tsubu
