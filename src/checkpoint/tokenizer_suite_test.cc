// The tokenizer suites that llama.cpp publishes: a vocabulary (GGUF, or the tiktoken ranks it was made from), texts and
// the ids that the models' own tokenizers give. Skipped where the data are not there.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/gguf_vocabulary.h"
#include "container/gguf.h"
#include "text/tokenizer.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

fs::path data_directory() {
  const char* set = std::getenv("TSUBU_DATA");
  return fs::path(set ? set : TSUBU_SOURCE_DIR "/../shared/data") / "tokenizers";
}

// TSUBU_VOCABULARIES names a folder with more of them.
fs::path vocabulary_directory() {
  const char* set = std::getenv("TSUBU_VOCABULARIES");
  return set ? fs::path(set) : data_directory() / "gguf-vocab";
}

std::string suite_file(const std::string& name, const std::string& ending) {
  return (vocabulary_directory() / ("ggml-vocab-" + name + ".gguf" + ending)).string();
}

std::vector<std::string> read_texts(const std::string& path) {
  constexpr std::string_view kSeparator = "\n__ggml_vocab_test__\n";
  const std::string all = read_text_file(path);
  std::vector<std::string> texts;
  for (size_t begin = 0; begin <= all.size();) {
    const size_t end = std::min(all.find(kSeparator, begin), all.size());
    texts.push_back(all.substr(begin, end - begin));
    begin = end + kSeparator.size();
  }
  return texts;
}

std::vector<std::vector<TokenId>> read_ids(const std::string& path) {
  std::vector<std::vector<TokenId>> rows;
  std::istringstream lines(read_text_file(path));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream numbers(line);
    rows.emplace_back();
    for (TokenId id; numbers >> id;) rows.back().push_back(id);
  }
  return rows;
}

void expect_suite(const std::string& name, const Tokenizer& tokenizer) {
  const std::vector<std::string> texts = read_texts(suite_file(name, ".inp"));
  const auto ids = read_ids(suite_file(name, ".out"));
  ASSERT_GE(texts.size(), ids.size());
  ASSERT_GT(ids.size(), 20u);
  for (size_t i = 0; i < ids.size(); ++i) {
    SCOPED_TRACE(name + ": case " + std::to_string(i));
    EXPECT_EQ(tokenizer.encode(texts[i], false, false), ids[i]) << texts[i];
    EXPECT_EQ(tokenizer.decode(ids[i]), texts[i]);
  }
}

class GgufSuite : public testing::TestWithParam<const char*> {};

TEST_P(GgufSuite, IdsAndTexts) {
  const std::string file = suite_file(GetParam(), "");
  if (!fs::exists(file) || !fs::exists(file + ".inp") || !fs::exists(file + ".out")) GTEST_SKIP() << "no " << file;
  const GgufFile gguf = GgufFile::open(file);
  const Vocabulary vocabulary = vocabulary_from_gguf(gguf.metadata());
  const auto tokenizer = Tokenizer::make(vocabulary);
  expect_suite(GetParam(), *tokenizer);
  for (TokenId id = -2; id <= static_cast<TokenId>(tokenizer->n_tokens()); ++id) (void)tokenizer->piece(id);

  GgufMetadata copy;
  vocabulary_to_gguf(vocabulary, copy);
  expect_suite(GetParam(), *Tokenizer::make(vocabulary_from_gguf(copy)));
}

INSTANTIATE_TEST_SUITE_P(All, GgufSuite,
                         testing::Values("deepseek-coder", "deepseek-llm", "falcon", "gpt-2", "llama-spm", "mpt",
                                         "phi-3", "refact", "starcoder"),
                         [](const auto& suite) {
                           std::string name = suite.param;
                           std::erase(name, '-');
                           return name;
                         });

void expect_tiktoken_suite(const std::string& name, const std::string& ranks) {
  const fs::path file = data_directory() / ranks;
  if (!fs::exists(file) || !fs::exists(suite_file(name, ".out"))) GTEST_SKIP() << "no " << file;
  expect_suite(name, *Tokenizer::make(vocabulary_from_tiktoken(read_text_file(file.string()), name, file.string())));
}

TEST(TiktokenSuite, Llama3) { expect_tiktoken_suite("llama-bpe", "llama3/tokenizer.model"); }
TEST(TiktokenSuite, Qwen2) { expect_tiktoken_suite("qwen2", "qwen/qwen.tiktoken"); }

TEST(TiktokenSuite, SpecialTokensOfLlama3) {
  const fs::path directory = data_directory() / "llama3";
  if (!fs::exists(directory)) GTEST_SKIP() << "no " << directory;
  const auto tokenizer = Tokenizer::make(vocabulary_from_directory(directory.string(), 128256));
  EXPECT_EQ(tokenizer->encode("<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", true, true),
            (std::vector<TokenId>{128000, 128006, 882, 128007, 271, 13347, 128009}));
  EXPECT_TRUE(tokenizer->is_end_of_generation(128009));
}

TEST(SentencePieceSuite, Llama2ModelIsLikeItsGguf) {
  const fs::path directory = data_directory() / "llama2";
  if (!fs::exists(directory) || !fs::exists(suite_file("llama-spm", ".out"))) GTEST_SKIP() << "no " << directory;
  expect_suite("llama-spm", *Tokenizer::make(vocabulary_from_directory(directory.string(), 32000)));
}

TEST(VocabMergesSuite, Gpt2FilesAreLikeTheirGguf) {
  const fs::path directory = data_directory() / "gpt2";
  if (!fs::exists(directory) || !fs::exists(suite_file("gpt-2", ".out"))) GTEST_SKIP() << "no " << directory;
  expect_suite("gpt-2", *Tokenizer::make(vocabulary_from_directory(directory.string(), 0)));
}

TEST(GgufVocabulary, WordPieceIsRefusedWithAReason) {
  GgufMetadata metadata;
  metadata.set("tokenizer.ggml.model", GgufValue::string("bert"));
  metadata.set("tokenizer.ggml.tokens", GgufValue::strings({"[PAD]", "a"}));
  try {
    Tokenizer::make(vocabulary_from_gguf(metadata));
    FAIL() << "WordPiece was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUnsupported);
  }
}

}  // namespace
}  // namespace tsubu
