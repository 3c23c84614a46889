#include "text/end_of_generation.h"

#include <array>
#include <string_view>
#include <unordered_set>

namespace tsubu {
namespace {

// Names under which chat models end a turn, a message or the text.
const std::unordered_set<std::string_view> kEndNames = {
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end_of_text|>",  // Llama 3
    "<|im_end|>",
    "<|endoftext|>",  // ChatML, GPT-2, Qwen
    "<|end|>",
    "<|return|>",
    "<|call|>",  // Phi-3, o200k_harmony
    "<|flush|>",
    "<|calls|>",  // Solar
    "<end_of_turn>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",  // Gemma
    "</s>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<end_of_utterance>",
    "[e~[",
    "<｜end▁of▁sentence｜>",  // DeepSeek
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",  // Qwen coder: the next file begins
};

}  // namespace

std::vector<bool> end_of_generation_flags(const Vocabulary& vocabulary) {
  const size_t n = vocabulary.tokens.size();
  std::vector<bool> flags(n, false);
  const auto mark = [&](int32_t id, bool value) {
    if (id >= 0 && static_cast<size_t>(id) < n) flags[static_cast<size_t>(id)] = value;
  };
  int32_t end = -1, slash_s = -1;
  bool has_return = false, has_call = false, has_flush = false, has_tool_response = false;
  for (size_t i = 0; i < n; ++i) {
    const std::string& token = vocabulary.tokens[i];
    const TokenType type = vocabulary.types[i];
    if (type != TokenType::kControl && type != TokenType::kUserDefined) continue;
    if (!kEndNames.contains(token)) continue;
    flags[i] = true;
    if (token == "<|end|>") end = static_cast<int32_t>(i);
    if (token == "</s>") slash_s = static_cast<int32_t>(i);
    has_return |= token == "<|return|>";
    has_call |= token == "<|call|>" || token == "<|calls|>";
    has_flush |= token == "<|flush|>";
    has_tool_response |= token == "<|tool_response>";
  }
  // Where a reply has several channels, "<|end|>" ends one of them only; with Gemma's tool tokens "</s>" is plain text.
  if (has_call && (has_return || has_flush)) mark(end, false);
  if (has_tool_response) mark(slash_s, false);

  mark(vocabulary.eos, true);
  mark(vocabulary.eot, true);
  for (int32_t id : vocabulary.end_of_generation) mark(id, true);
  return flags;
}

}  // namespace tsubu
