// One hash over what must never change by accident: the bytes of every codec and the tokens a model picks.
#pragma once

#include <string>
#include <vector>

#include "base/threads.h"
#include "model/model.h"

namespace tsubu {

struct Signature {
  std::string codecs;            // over the bytes of all types that can be encoded, with and without importance
  std::vector<TokenId> tokens;   // kSignatureTokens greedy ones
  std::string hash;              // over both
};

inline constexpr size_t kSignatureTokens = 32;

Signature make_signature(const Model& model, ThreadPool& pool);
Json to_json(const Signature& signature);

}  // namespace tsubu
