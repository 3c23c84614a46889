// Chat data to learn from: JSON lines in the forms that are common, rendered with the model's chat template, cut to windows
// in which only answers are targets.
//   {"messages": [{"role", "content"}, …]}                    OpenAI, TRL; "weight": 0 on a message: no target
//   {"conversations": [{"from": "human|gpt|system", "value"}]}  ShareGPT; also with role and content
//   {"prompt", "completion"}                                    each a text, or a list of messages
//   {"instruction", "input", "output"}                          Alpaca; input may be missing
// With a template, a prompt and its completion are a user's and an assistant's message; without one (a base model) they are
// one text, as they are. A conversation's tokens are those of its whole text. An answer begins where the tokens of the
// prompt (the messages before it and the template's opening of a reply) end, and ends with the token that ends a
// generation; where no answer's end has one, EOS is added. A template that renders earlier answers differently once more
// follows (reasoning that is left out) makes an example of each answer.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "chat/chat_template.h"
#include "model/model.h"

namespace tsubu {

// Tokens, and the token that each one is to be followed by; -1: whatever. starts: the first token of each of the conversations
// that stand one behind the other and do not see each other; empty: one sequence.
struct TuneWindow {
  std::vector<TokenId> tokens, targets;
  std::vector<uint32_t> starts = {};
  uint64_t n_targets() const;
};

// Tokens with the answers among them.
struct ChatExample {
  std::vector<TokenId> tokens;
  std::vector<bool> is_answer;
};

// One line's messages in OpenAI's form. is_text: a prompt and a completion that are texts. Throws Error(kBadInput).
struct ChatRecord {
  Json messages;
  bool is_text = false;
};
ChatRecord chat_record(const Json& line, const std::string& where);

class ChatRenderer {
 public:
  explicit ChatRenderer(const Model& model);
  ChatRenderer(const Vocabulary& vocabulary, const std::string& chat_template);
  // Throws Error(kBadInput) when the template refuses the messages or does not begin an answer with its prompt.
  std::vector<ChatExample> examples(const ChatRecord& record, const std::string& where) const;

 private:
  std::string prompt(const ChatRecord& record, size_t n_messages) const;
  std::string whole(const ChatRecord& record, size_t n_messages) const;  // the last of them is an answer
  std::vector<TokenId> encode(const std::string& text) const;
  void mark(const ChatRecord& record, size_t answer, ChatExample& example) const;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<chat::ChatTemplate> template_;
};

struct ChatData {
  std::vector<TuneWindow> windows;
  uint64_t n_records = 0, n_examples = 0;
  uint64_t n_cut = 0;    // examples longer than a window, of which the beginning is used
  uint64_t n_empty = 0;  // examples left out: no answer within a window
  std::string hash;      // of the windows
};

// Examples in the files' order, each into the first of the windows that has room (packing: several in one window, one after the
// other, each as if it were alone) or, without packing, into one of its own. Throws Error(kUsage) when nothing is left.
ChatData read_chat(const Model& model, std::span<const std::string> paths, uint32_t context, bool pack);
// The same from texts, cut as calibrate/corpus.h does: every token is a target.
std::vector<TuneWindow> text_windows(std::span<const std::vector<TokenId>> chunks);
std::vector<TuneWindow> pack_examples(std::vector<ChatExample> examples, uint32_t context, bool pack, ChatData& counts);
std::string windows_hash(std::span<const TuneWindow> windows);

}  // namespace tsubu
