// Properties on random text: nothing is lost, and the same text gives the same ids whatever was asked before.
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "text/normalize_text.h"
#include "text/sentencepiece_normalizer.h"
#include "text/test_vocabularies.h"
#include "text/utf8.h"

namespace tsubu {
namespace {

// Characters that pre-tokenizers and normalizers treat in different ways.
rc::Gen<std::string> text_of_characters() {
  const auto ascii = rc::gen::inRange<uint32_t>(0, 0x80);
  const auto latin = rc::gen::inRange<uint32_t>(0x80, 0x250);
  const auto cjk = rc::gen::inRange<uint32_t>(0x3000, 0x9FFF);
  const auto high = rc::gen::inRange<uint32_t>(0x10000, 0x10FFFF);
  const auto chosen = rc::gen::element<uint32_t>(' ', '\n', '\r', '\t', 'a', 'h', 'e', 't', '1', '2', '3', '\'', 's',
                                                 '<', '>', 0x301, 0x2581, 0x180E, 0x3000, 0xFB01);
  const auto character = rc::gen::weightedOneOf<uint32_t>({{4, chosen}, {3, ascii}, {1, latin}, {1, cjk}, {1, high}});
  return rc::gen::map(rc::gen::container<std::vector<uint32_t>>(character),
                      [](const std::vector<uint32_t>& characters) {
                        std::string text;
                        for (uint32_t c : characters) append_utf8(text, c);
                        return text;
                      });
}

rc::Gen<std::string> text_of_bytes() { return rc::gen::container<std::string>(rc::gen::arbitrary<char>()); }

template <class Property>
void expect_for_texts(Property&& property) {
  EXPECT_TRUE(rc::check("characters", [&] { property(*text_of_characters()); }));
  EXPECT_TRUE(rc::check("bytes", [&] { property(*text_of_bytes()); }));
}

TEST(TokenizerProperty, ByteLevelLosesNothing) {
  std::vector<std::unique_ptr<Tokenizer>> tokenizers;
  for (const std::string& pre : pre_tokenizer_names()) tokenizers.push_back(Tokenizer::make(tiny_byte_level(pre)));
  ASSERT_GT(tokenizers.size(), 20u);
  expect_for_texts([&](const std::string& text) {
    const Tokenizer& tokenizer = *tokenizers[*rc::gen::inRange<size_t>(0, tokenizers.size())];
    RC_ASSERT(tokenizer.decode(tokenizer.encode(text, false)) == text);
    RC_ASSERT(tokenizer.decode(tokenizer.encode(text, false, true), true) == text);
  });
}

TEST(TokenizerProperty, SentencePieceLosesOnlyItsOwnSpaceSign) {
  const auto bpe = Tokenizer::make(tiny_sentencepiece(VocabularyKind::kSentencePieceBpe));
  const auto unigram = Tokenizer::make(tiny_sentencepiece(VocabularyKind::kSentencePieceUnigram));
  expect_for_texts([&](const std::string& text) {
    const std::string expected = unescape_meta_space(text);
    RC_ASSERT(bpe->decode(bpe->encode(text, false)) == expected);
    RC_ASSERT(unigram->decode(unigram->encode(text, false)) == expected);
  });
}

// Words are encoded one by one and remembered; with a piece that reaches across words the whole run is merged at once.
// Such a piece that no text can form must not change anything.
TEST(TokenizerProperty, WordsOneByOneAreLikeTheWholeRun) {
  Vocabulary whole = tiny_sentencepiece(VocabularyKind::kSentencePieceBpe);
  append_token(whole, "\x7F▁", TokenType::kNormal, -100);
  Vocabulary words = tiny_sentencepiece(VocabularyKind::kSentencePieceBpe);
  append_token(words, "\x7F", TokenType::kUnused, -100);
  const auto by_run = Tokenizer::make(whole), by_word = Tokenizer::make(words);
  EXPECT_TRUE(rc::check("", [&] {
    std::string text = *text_of_characters();
    std::erase(text, '\x7F');
    RC_ASSERT(by_run->encode(text) == by_word->encode(text));
  }));
}

TEST(TokenizerProperty, IdsAreOfTheVocabulary) {
  const auto tokenizer = Tokenizer::make(tiny_byte_level("llama-bpe"));
  EXPECT_TRUE(rc::check("", [&] {
    const auto ids = *rc::gen::container<std::vector<TokenId>>(rc::gen::arbitrary<TokenId>());
    (void)tokenizer->decode(ids, true);  // any ids decode; those outside the vocabulary to nothing
    for (TokenId id : ids)
      if (id < 0 || static_cast<size_t>(id) >= tokenizer->n_tokens()) RC_ASSERT(tokenizer->piece(id).empty());
  }));
}

TEST(TokenizerProperty, NormalFormsAreStable) {
  for (const char* form : {"nfc", "nfd", "nfkc", "nfkd"})
    expect_for_texts([&](const std::string& text) {
      const std::string once = normalize_text(text, form);
      RC_ASSERT(normalize_text(once, form) == once);
    });
}

}  // namespace
}  // namespace tsubu
