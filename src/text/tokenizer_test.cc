#include <gtest/gtest.h>

#include "base/error.h"
#include "text/test_vocabularies.h"

namespace tsubu {
namespace {

using Ids = std::vector<TokenId>;

ExitCode code_of_make(Vocabulary vocabulary) {
  try {
    Tokenizer::make(std::move(vocabulary));
  } catch (const Error& error) {
    return error.code();
  }
  return ExitCode::kDone;
}

TokenId id_of(const Tokenizer& tokenizer, std::string_view token) {
  const auto& tokens = tokenizer.vocabulary().tokens;
  const auto found = std::find(tokens.begin(), tokens.end(), token);
  EXPECT_NE(found, tokens.end()) << token;
  return static_cast<TokenId>(found - tokens.begin());
}

TEST(Tokenizer, SpecialTokensInTheText) {
  const auto tokenizer = Tokenizer::make(tiny_byte_level("gpt-2"));
  const TokenId end = id_of(*tokenizer, "<|end|>"), sep = id_of(*tokenizer, "<sep>");
  EXPECT_EQ(tokenizer->encode("1<sep>2<|end|>", false, true), (Ids{'1', sep, '2', end}));
  const Ids plain = tokenizer->encode("1<sep>2<|end|>", false, false);
  EXPECT_EQ(Ids(plain.begin(), plain.begin() + 3), (Ids{'1', sep, '2'}));
  EXPECT_EQ(std::count(plain.begin(), plain.end(), end), 0);
  EXPECT_EQ(tokenizer->decode(Ids{'1', end}), "1");
  EXPECT_EQ(tokenizer->decode(Ids{'1', end}, true), "1<|end|>");
  EXPECT_EQ(tokenizer->piece(end), "<|end|>");
  EXPECT_EQ(tokenizer->piece(end, false), "");
  EXPECT_TRUE(tokenizer->is_control(end));
  EXPECT_FALSE(tokenizer->is_control(sep));
}

TEST(Tokenizer, TheLongestSpecialTokenCounts) {
  Vocabulary v = tiny_byte_level("gpt-2");
  append_token(v, "<sep>1", TokenType::kUserDefined);
  const auto tokenizer = Tokenizer::make(v);
  const TokenId longest = id_of(*tokenizer, "<sep>1");
  EXPECT_EQ(tokenizer->encode("<sep>12<sep>", false), (Ids{longest, '2', id_of(*tokenizer, "<sep>")}));
}

TEST(Tokenizer, SpecialTokensSwallowWhitespaceWhereAsked) {
  Vocabulary v = tiny_byte_level("gpt-2");
  const auto sep = static_cast<TokenId>(std::find(v.tokens.begin(), v.tokens.end(), "<sep>") - v.tokens.begin());
  v.strip_left = v.strip_right = {sep};
  EXPECT_EQ(Tokenizer::make(v)->encode("1 \n<sep>\t 2", false), (Ids{'1', sep, '2'}));
  v.strip_left.clear();
  EXPECT_EQ(Tokenizer::make(v)->encode("1 <sep>\t 2", false), (Ids{'1', ' ', sep, '2'}));
}

TEST(Tokenizer, BosAndEosAsTheVocabularySays) {
  Vocabulary v = tiny_sentencepiece(VocabularyKind::kSentencePieceBpe);
  EXPECT_EQ(Tokenizer::make(v)->encode("", true), Ids{});
  v.add_bos = v.add_eos = true;
  EXPECT_EQ(Tokenizer::make(v)->encode("", true), (Ids{1, 2}));
  EXPECT_EQ(Tokenizer::make(v)->encode("", false), Ids{});
}

TEST(Tokenizer, SpacePrefixComesAndGoes) {
  Vocabulary v = tiny_sentencepiece(VocabularyKind::kSentencePieceBpe);
  const auto each_run = Tokenizer::make(v);
  const TokenId the = id_of(*each_run, "▁the"), sep = id_of(*each_run, "<sep>");
  const Ids ids = each_run->encode("the<sep>the", false);
  EXPECT_EQ(ids, (Ids{the, sep, the}));
  EXPECT_EQ(each_run->decode(ids), "the<sep>the");
  EXPECT_EQ(each_run->decode(Ids{1, the, 2, the}), "the the") << "hidden tokens take no space away";

  v.prefix_after_special = false;
  const auto first_only = Tokenizer::make(v);
  const Ids once = first_only->encode("the<sep>the", false);
  EXPECT_EQ(Ids(once.begin(), once.begin() + 2), (Ids{the, sep}));
  EXPECT_EQ(std::count(once.begin(), once.end(), the), 1);
  EXPECT_EQ(first_only->decode(once), "the<sep>the");

  v.add_space_prefix = false;
  const auto none = Tokenizer::make(v);
  EXPECT_EQ(none->encode(" the", false), Ids{the});
  EXPECT_EQ(none->decode(Ids{the}), " the");
}

TEST(Tokenizer, UnusedPiecesAreTakenApartAgain) {
  Vocabulary v = tiny_sentencepiece(VocabularyKind::kSentencePieceBpe);
  const auto aaaa = std::find(v.tokens.begin(), v.tokens.end(), "aaaa") - v.tokens.begin();
  const auto aa = static_cast<TokenId>(std::find(v.tokens.begin(), v.tokens.end(), "aa") - v.tokens.begin());
  v.add_space_prefix = false;
  EXPECT_EQ(Tokenizer::make(v)->encode("aaaa", false), Ids{static_cast<TokenId>(aaaa)});
  v.types[static_cast<size_t>(aaaa)] = TokenType::kUnused;
  EXPECT_EQ(Tokenizer::make(v)->encode("aaaa", false), (Ids{aa, aa}));
}

TEST(Tokenizer, BytesThatTheVocabularyLacks) {
  Vocabulary v = tiny_byte_level("gpt-2");
  v.types['x'] = TokenType::kUnused;
  EXPECT_EQ(Tokenizer::make(v)->encode("1x2", false), (Ids{'1', '2'}));
  v.unk = '?';
  EXPECT_EQ(Tokenizer::make(v)->encode("1x2", false), (Ids{'1', '?', '2'}));
}

TEST(Tokenizer, WholeWordsNeedNoMergesWithIgnoreMerges) {
  Vocabulary v = tiny_byte_level("llama-bpe");
  append_token(v, "zzz", TokenType::kNormal);
  const auto zzz = static_cast<TokenId>(v.tokens.size() - 1);
  EXPECT_EQ(Tokenizer::make(v)->encode("zzz", false), Ids{zzz});
  v.pre = "dbrx";
  EXPECT_EQ(Tokenizer::make(v)->encode("zzz", false), (Ids{'z', 'z', 'z'}));
}

TEST(Tokenizer, NormalFormBeforeBytes) {
  Vocabulary v = tiny_byte_level("qwen2");
  v.normalizer = "nfc";
  const auto tokenizer = Tokenizer::make(v);
  EXPECT_EQ(tokenizer->encode("e\xCC\x81", false), tokenizer->encode("\xC3\xA9", false));
  v.normalizer = "rot13";
  EXPECT_EQ(code_of_make(v), ExitCode::kUnsupported);
}

TEST(Tokenizer, EndOfGeneration) {
  Vocabulary v = tiny_byte_level("gpt-2");
  v.eos = -1;
  append_token(v, "<|im_end|>", TokenType::kControl);
  append_token(v, "<|call|>", TokenType::kControl);
  append_token(v, "<|return|>", TokenType::kControl);
  v.end_of_generation = {'!', 99999};
  const auto tokenizer = Tokenizer::make(v);
  EXPECT_TRUE(tokenizer->is_end_of_generation(id_of(*tokenizer, "<|im_end|>")));
  EXPECT_TRUE(tokenizer->is_end_of_generation('!'));
  EXPECT_FALSE(tokenizer->is_end_of_generation(id_of(*tokenizer, "<|end|>")))
      << "ends a channel where <|return|> exists";
  EXPECT_FALSE(tokenizer->is_end_of_generation('a'));
  EXPECT_FALSE(tokenizer->is_end_of_generation(-1));
  EXPECT_FALSE(tokenizer->is_end_of_generation(1 << 30));
}

TEST(Tokenizer, DuplicateTokensKeepTheFirstId) {
  Vocabulary v = tiny_sentencepiece(VocabularyKind::kSentencePieceBpe);
  v.add_space_prefix = false;
  const Ids before = Tokenizer::make(v)->encode("the", false);
  append_token(v, "he", TokenType::kNormal, 100);
  EXPECT_EQ(Tokenizer::make(v)->encode("the", false), before);
}

TEST(Tokenizer, InconsistentVocabulariesAreRefused) {
  const Vocabulary good = tiny_byte_level("gpt-2");
  EXPECT_EQ(code_of_make(good), ExitCode::kDone);
  Vocabulary v = good;
  v.tokens.pop_back();
  EXPECT_EQ(code_of_make(v), ExitCode::kBadInput) << "types without tokens";
  v = good;
  v.scores.push_back(0);
  EXPECT_EQ(code_of_make(v), ExitCode::kBadInput) << "scores without tokens";
  v = good;
  v.scores[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(code_of_make(v), ExitCode::kBadInput) << "a score that does not compare";
  v = good;
  v.eos = static_cast<int32_t>(v.tokens.size());
  EXPECT_EQ(code_of_make(v), ExitCode::kBadInput) << "EOS outside";
  v = good;
  v.bos = -1;
  v.add_bos = true;
  EXPECT_EQ(code_of_make(v), ExitCode::kBadInput) << "BOS to add, but none";
  v = good;
  v.merges.emplace_back("a", "Ġ");
  EXPECT_EQ(code_of_make(v), ExitCode::kBadInput) << "merge into no token";
  v = good;
  v.pre = "no-such-thing";
  EXPECT_EQ(code_of_make(v), ExitCode::kUnsupported);
  v = good;
  v.kind = VocabularyKind::kWordPiece;
  EXPECT_EQ(code_of_make(v), ExitCode::kUnsupported);
  v.kind = VocabularyKind::kNone;
  EXPECT_EQ(code_of_make(v), ExitCode::kUnsupported);
  v = good;
  v.tokens.clear();
  EXPECT_EQ(code_of_make(v), ExitCode::kBadInput) << "empty";
  v = tiny_sentencepiece(VocabularyKind::kSentencePieceUnigram);
  v.precompiled_charsmap = {std::byte{255}, std::byte{255}, std::byte{255}, std::byte{255}, std::byte{0}};
  EXPECT_EQ(code_of_make(v), ExitCode::kBadInput) << "character map larger than its bytes";
}

}  // namespace
}  // namespace tsubu
