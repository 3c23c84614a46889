// Reads tokenizer.model, SentencePiece's ModelProto. Source: github.com/google/sentencepiece,
// sentencepiece_model.proto.
#include <array>

#include "base/error.h"
#include "text/protobuf.h"
#include "text/sentencepiece_normalizer.h"
#include "text/tokenizer.h"

namespace tsubu {
namespace {

// Field numbers of ModelProto and its parts.
enum ModelField : uint32_t { kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3 };
enum PieceField : uint32_t { kPiece = 1, kScore = 2, kType = 3 };
enum TrainerField : uint32_t {
  kModelType = 3,
  kWhitespaceAsSuffix = 24,
  kUnkId = 40,
  kBosId = 41,
  kEosId = 42,
  kPadId = 43
};
enum NormalizerField : uint32_t {
  kCharsmap = 2,
  kAddDummyPrefix = 3,
  kRemoveExtraWhitespaces = 4,
  kEscapeWhitespaces = 5
};
enum ModelType : uint64_t { kUnigram = 1, kBpe = 2 };

void read_piece(ProtoReader reader, Vocabulary& vocabulary, const std::string& where) {
  std::string_view text;
  float score = 0;
  auto type = TokenType::kNormal;
  while (const auto field = reader.next()) {
    if (field->number == kPiece) text = field->bytes;
    if (field->number == kScore) score = field->as_float();
    if (field->number != kType) continue;
    if (field->value < 1 || field->value > 6)
      fail(ExitCode::kBadInput, "{}: piece {} is of type {}, expected 1 to 6", where, vocabulary.tokens.size(),
           field->value);
    type = static_cast<TokenType>(field->value);
  }
  // User-defined symbols are searched in the text as it is, before spaces are escaped.
  vocabulary.tokens.push_back(type == TokenType::kUserDefined ? unescape_meta_space(text) : std::string(text));
  vocabulary.scores.push_back(score);
  vocabulary.types.push_back(type);
}

VocabularyKind read_trainer_spec(ProtoReader reader, Vocabulary& vocabulary, const std::string& where) {
  uint64_t model_type = kUnigram;
  while (const auto field = reader.next()) {
    switch (field->number) {
      case kModelType:
        model_type = field->value;
        break;
      case kWhitespaceAsSuffix:
        if (field->as_bool())
          fail(ExitCode::kUnsupported,
               "{}: spaces that follow their word (treat_whitespace_as_suffix) are not supported", where);
        break;
      case kUnkId:
        vocabulary.unk = field->as_int32();
        break;
      case kBosId:
        vocabulary.bos = field->as_int32();
        break;
      case kEosId:
        vocabulary.eos = field->as_int32();
        break;
      case kPadId:
        vocabulary.pad = field->as_int32();
        break;
      default:
        break;
    }
  }
  if (model_type == kBpe) return VocabularyKind::kSentencePieceBpe;
  if (model_type == kUnigram) return VocabularyKind::kSentencePieceUnigram;
  fail(ExitCode::kUnsupported, "{}: SentencePiece model type {}; only unigram (1) and BPE (2) are supported", where,
       model_type);
}

void read_normalizer_spec(ProtoReader reader, Vocabulary& vocabulary) {
  while (const auto field = reader.next()) {
    switch (field->number) {
      case kCharsmap: {
        const auto bytes = std::as_bytes(std::span(field->bytes));
        vocabulary.precompiled_charsmap.assign(bytes.begin(), bytes.end());
        break;
      }
      case kAddDummyPrefix:
        vocabulary.add_space_prefix = field->as_bool();
        break;
      case kRemoveExtraWhitespaces:
        vocabulary.remove_extra_whitespaces = field->as_bool();
        break;
      case kEscapeWhitespaces:
        vocabulary.escape_whitespaces = field->as_bool();
        break;
      default:
        break;
    }
  }
}

}  // namespace

Vocabulary vocabulary_from_sentencepiece(std::span<const std::byte> model_proto, const std::string& where) {
  Vocabulary vocabulary;
  vocabulary.kind = VocabularyKind::kSentencePieceUnigram;
  vocabulary.pre = "default";
  vocabulary.unk = 0;  // the ModelProto's defaults
  vocabulary.bos = 1;
  vocabulary.eos = 2;
  vocabulary.remove_extra_whitespaces = true;
  vocabulary.prefix_after_special = false;

  ProtoReader reader({reinterpret_cast<const char*>(model_proto.data()), model_proto.size()}, where);
  while (const auto field = reader.next()) {
    if (field->number == kPieces) read_piece(reader.nested(*field), vocabulary, where);
    if (field->number == kTrainerSpec) vocabulary.kind = read_trainer_spec(reader.nested(*field), vocabulary, where);
    if (field->number == kNormalizerSpec) read_normalizer_spec(reader.nested(*field), vocabulary);
  }
  if (vocabulary.tokens.empty())
    fail(ExitCode::kBadInput, "{}: no pieces, expected a SentencePiece model (tokenizer.model)", where);

  const std::array<int32_t*, 4> special{&vocabulary.unk, &vocabulary.bos, &vocabulary.eos, &vocabulary.pad};
  for (int32_t* id : special) {
    const bool exists = *id >= 0 && static_cast<size_t>(*id) < vocabulary.tokens.size();
    const TokenType type = exists ? vocabulary.types[static_cast<size_t>(*id)] : TokenType::kNormal;
    if (type == TokenType::kNormal || type == TokenType::kByte) *id = -1;
  }
  const bool is_bpe = vocabulary.kind == VocabularyKind::kSentencePieceBpe;
  vocabulary.add_bos = is_bpe && vocabulary.bos >= 0;
  vocabulary.add_eos = !is_bpe && vocabulary.eos >= 0;
  return vocabulary;
}

}  // namespace tsubu
