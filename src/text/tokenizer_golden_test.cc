// Ids that SentencePiece and Hugging Face's tokenizers give with small tokenizers (tests/make_text_goldens.py).
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"

namespace tsubu {
namespace {

const std::string kFolder = TSUBU_SOURCE_DIR "/tests/golden/text/";

struct Golden {
  const char* name;
  const char* model_ending;
  VocabularyKind kind;
};

class TokenizerGolden : public testing::TestWithParam<Golden> {
 protected:
  static Vocabulary read(const Golden& golden) {
    const std::string path = kFolder + golden.name + golden.model_ending;
    const std::string file = read_text_file(path);
    if (std::string_view(golden.model_ending) == ".model")
      return vocabulary_from_sentencepiece(std::as_bytes(std::span(file)), path);
    return vocabulary_from_tokenizer_json(file, path);
  }
};

TEST_P(TokenizerGolden, Ids) {
  const Golden golden = GetParam();
  const std::string path = kFolder + golden.name + ".json";
  const Json expected = parse_json(read_text_file(path), path);
  const auto tokenizer = Tokenizer::make(read(golden));
  EXPECT_EQ(tokenizer->vocabulary().kind, golden.kind);
  EXPECT_EQ(tokenizer->n_tokens(), expected["n_tokens"].get<size_t>());
  ASSERT_GT(expected["cases"].size(), 30u);
  for (const Json& one : expected["cases"]) {
    const auto text = one["text"].get<std::string>();
    EXPECT_EQ(tokenizer->encode(text, false), one["ids"].get<std::vector<TokenId>>()) << "'" << text << "'";
  }
  if (!expected.contains("special")) return;
  const auto text = expected["special"]["text"].get<std::string>();
  EXPECT_EQ(tokenizer->encode(text, true, true), expected["special"]["ids"].get<std::vector<TokenId>>()) << text;
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerGolden,
                         testing::Values(Golden{"spm_bpe", ".model", VocabularyKind::kSentencePieceBpe},
                                         Golden{"spm_bpe_unknown", ".model", VocabularyKind::kSentencePieceBpe},
                                         Golden{"spm_unigram", ".model", VocabularyKind::kSentencePieceUnigram},
                                         Golden{"byte_level", ".tokenizer.json", VocabularyKind::kByteLevelBpe},
                                         Golden{"llama_like", ".tokenizer.json", VocabularyKind::kSentencePieceBpe},
                                         Golden{"unigram", ".tokenizer.json", VocabularyKind::kSentencePieceUnigram}),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace tsubu
