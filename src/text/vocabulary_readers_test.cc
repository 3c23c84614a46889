// Readers of tokenizer files: what they take from them, and that damaged ones end in an Error.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "text/fuzz_bodies.h"

namespace tsubu {
namespace {

const std::string kGolden = TSUBU_SOURCE_DIR "/tests/golden/text/";
constexpr std::string_view kSmallJson =
    R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
  "pre_tokenizer": {"type": "ByteLevel"}, "added_tokens": [{"id": 3, "content": "<s>", "special": true}]})";

class Folder {
 public:
  Folder() : path_(testing::TempDir() + "tsubu_text_" + std::to_string(::getpid())) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder& add(const std::string& name, std::string_view text) {
    write_text_file(path_ + "/" + name, text);
    return *this;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

template <class Read>
std::string refusal(ExitCode code, Read&& read) {
  try {
    Tokenizer::make(read());
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "was accepted";
  return {};
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out(text);
  const size_t at = out.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return at == std::string::npos ? out : out.replace(at, from.size(), to);
}

TEST(SentencePieceModel, EveryCutEndsInATokenizerOrAnError) {
  const std::string model = read_text_file(kGolden + "spm_unigram.model");
  size_t n_valid = 0;
  for (size_t size = 0; size < model.size(); ++size)
    n_valid += try_sentencepiece(std::as_bytes(std::span(model).first(size)));
  EXPECT_LT(n_valid, model.size() / 2) << "a cut inside a piece was accepted";
  for (size_t i = 0; i < model.size(); i += 3) {
    std::string damaged = model;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x55);
    (void)try_sentencepiece(std::as_bytes(std::span(damaged)));
  }
}

TEST(SentencePieceModel, MessagesSayWhere) {
  const std::string long_field =
      "\x0A\x7F"
      "abc";
  const std::string what = refusal(ExitCode::kBadInput, [&] {
    return vocabulary_from_sentencepiece(std::as_bytes(std::span(long_field)), "dir/tokenizer.model");
  });
  EXPECT_NE(what.find("dir/tokenizer.model@0x2: a field is longer than what is left"), std::string::npos) << what;
  refusal(ExitCode::kBadInput, [] { return vocabulary_from_sentencepiece({}, "x"); });
}

TEST(TokenizerJson, DamagedFiles) {
  const auto refuse = [](ExitCode code, const std::string& json) {
    return refusal(code, [&] { return vocabulary_from_tokenizer_json(json, "x.json"); });
  };
  ASSERT_TRUE(try_tokenizer_json(std::as_bytes(std::span(kSmallJson))));
  for (size_t size = 0; size < kSmallJson.size(); ++size)
    EXPECT_FALSE(try_tokenizer_json(std::as_bytes(std::span(kSmallJson.substr(0, size))))) << size;
  EXPECT_NE(refuse(ExitCode::kBadInput, replaced(kSmallJson, "a b", "a c")).find("merge 0"), std::string::npos);
  refuse(ExitCode::kBadInput, replaced(kSmallJson, "a b", "ab"));
  refuse(ExitCode::kBadInput, replaced(kSmallJson, "\"b\": 1", "\"b\": 0"));
  refuse(ExitCode::kBadInput, replaced(kSmallJson, "\"b\": 1", "\"b\": 2000000000"));
  refuse(ExitCode::kBadInput, replaced(kSmallJson, "\"b\": 1", "\"b\": -1"));
  refuse(ExitCode::kBadInput, replaced(kSmallJson, "\"b\": 1", "\"b\": \"x\""));
  refuse(ExitCode::kBadInput, replaced(kSmallJson, "\"id\": 3", "\"id\": 4000000000"));
  refuse(ExitCode::kBadInput, R"({"version": "1.0"})");
  refuse(ExitCode::kUnsupported, replaced(kSmallJson, "\"BPE\"", "\"WordLevel\""));
  refuse(ExitCode::kUnsupported,
         replaced(kSmallJson, "\"ByteLevel\"}", "\"ByteLevel\"}, \"normalizer\": {\"type\": \"Lowercase\"}"));
  const std::string what = refuse(
      ExitCode::kUnsupported,
      replaced(
          kSmallJson, R"({"type": "ByteLevel"})",
          R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "q+"}},)"
          R"({"type": "ByteLevel"}]})"));
  EXPECT_NE(what.find("q+"), std::string::npos) << what;
}

TEST(TokenizerJson, HolesAreUnusedTokens) {
  const Vocabulary v = vocabulary_from_tokenizer_json(replaced(kSmallJson, "\"id\": 3", "\"id\": 5"), "x.json");
  EXPECT_EQ(v.tokens[3], "[PAD3]");
  EXPECT_EQ(v.types[4], TokenType::kUnused);
  EXPECT_EQ(v.tokens[5], "<s>");
  EXPECT_EQ(v.pre, "gpt-2");
  EXPECT_EQ(v.bos, 5);
}

TEST(Tiktoken, RanksMergesAndRefusals) {
  const std::string ranks = "YQ== 0\nYg== 1\nYw== 2\nYWI= 3\nYWJj 4\r\n";  // a b c ab abc
  const Vocabulary v = vocabulary_from_tiktoken(ranks, "gpt-2", "x");
  EXPECT_EQ(v.tokens, (std::vector<std::string>{"a", "b", "c", "ab", "abc"}));
  EXPECT_EQ(v.merges, (std::vector<std::pair<std::string, std::string>>{{"a", "b"}, {"ab", "c"}}));
  EXPECT_EQ(Tokenizer::make(v)->encode("abcab", false), (std::vector<TokenId>{4, 3}));
  const auto tokens_of = [&](const char* pre) { return vocabulary_from_tiktoken(ranks, pre, "x").tokens; };
  EXPECT_EQ(tokens_of("llama-bpe").size(), 5u + 256);
  EXPECT_EQ(tokens_of("llama-bpe")[5 + 9], "<|eot_id|>");
  EXPECT_EQ(tokens_of("llama-bpe").back(), "<|reserved_special_token_247|>");
  EXPECT_EQ(tokens_of("qwen2").back(), "<|im_end|>");
  for (const char* bad : {"", "YQ==", "YQ== x", "YQ== 1", "YQ= 0", " 0", "YQ== 0\nYg== 0", "YQ== 99999999999999999999"})
    refusal(ExitCode::kBadInput, [&] { return vocabulary_from_tiktoken(bad, "gpt-2", "x"); });
}

TEST(VocabMerges, ReadAndRefused) {
  const Vocabulary v =
      vocabulary_from_vocab_merges(R"({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3})", "#version: 0.2\na b\n", "x");
  EXPECT_EQ(Tokenizer::make(v)->encode("ab<|endoftext|>", false, true), (std::vector<TokenId>{2, 3}));
  EXPECT_EQ(v.eos, 3);
  refusal(ExitCode::kBadInput, [] { return vocabulary_from_vocab_merges(R"({"a": 0})", "a b\n", "x"); });
  refusal(ExitCode::kBadInput, [] { return vocabulary_from_vocab_merges(R"({"a": 0})", "ab\n", "x"); });
  refusal(ExitCode::kBadInput, [] { return vocabulary_from_vocab_merges(R"({"a": 123456789})", "", "x"); });
  refusal(ExitCode::kBadInput, [] { return vocabulary_from_vocab_merges("[]", "", "x"); });
}

TEST(VocabularyDirectory, SmallFilesBesideTheModel) {
  Folder folder;
  folder.add("tokenizer.json", kSmallJson)
      .add("added_tokens.json", R"({"<pad>": 4})")
      .add("tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "pad_token": "<pad>", "add_bos_token": true,
            "added_tokens_decoder": {"5": {"content": "<|im_end|>", "special": true, "rstrip": true}},
            "chat_template": [{"name": "rag", "template": "R"}, {"name": "default", "template": "D"}]})")
      .add("special_tokens_map.json", R"({"eos_token": "<|im_end|>"})")
      .add("generation_config.json", R"({"eos_token_id": [5, 3, 700]})");
  const Vocabulary v = vocabulary_from_directory(folder.path(), 8);
  EXPECT_EQ(v.tokens.size(), 8u);
  EXPECT_EQ(v.types[7], TokenType::kUnused);
  EXPECT_EQ(v.bos, 3);
  EXPECT_EQ(v.eos, 5);
  EXPECT_EQ(v.pad, 4);
  EXPECT_EQ(v.types[4], TokenType::kControl);
  EXPECT_TRUE(v.add_bos);
  EXPECT_EQ(v.chat_template, "D");
  EXPECT_EQ(v.end_of_generation, (std::vector<int32_t>{3}));
  EXPECT_EQ(v.strip_right, (std::vector<int32_t>{5}));
  const auto tokenizer = Tokenizer::make(v);
  EXPECT_EQ(tokenizer->encode("ab<|im_end|>\n", true, true), (std::vector<TokenId>{3, 2, 5}));
  EXPECT_TRUE(tokenizer->is_end_of_generation(3));

  const std::string what = refusal(ExitCode::kBadInput, [&] { return vocabulary_from_directory(folder.path(), 5); });
  EXPECT_NE(what.find("5"), std::string::npos) << what;
  folder.add("chat_template.jinja", "J");
  EXPECT_EQ(vocabulary_from_directory(folder.path(), 0).chat_template, "J");
}

TEST(VocabularyDirectory, EachKindOfFile) {
  {
    Folder folder;
    refusal(ExitCode::kBadInput, [&] { return vocabulary_from_directory(folder.path(), 0); });
    folder.add("qwen.tiktoken", "YQ== 0\n");
    EXPECT_EQ(vocabulary_from_directory(folder.path(), 0).pre, "qwen2");
    folder.add("vocab.json", "{\"a\": 0}").add("merges.txt", "");
    EXPECT_EQ(vocabulary_from_directory(folder.path(), 0).pre, "qwen2");
  }
  Folder folder;
  folder.add("tokenizer.model", "YQ== 0\nYg== 1\n");
  EXPECT_EQ(vocabulary_from_directory(folder.path(), 0).pre, "llama-bpe");
  folder.add("tokenizer.model", read_text_file(kGolden + "spm_bpe.model")).add("tokenizer.json", kSmallJson);
  EXPECT_EQ(vocabulary_from_directory(folder.path(), 0).kind, VocabularyKind::kSentencePieceBpe);
}

}  // namespace
}  // namespace tsubu
