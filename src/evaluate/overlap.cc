#include "evaluate/overlap.h"

#include "text/utf8.h"

namespace tsubu {
namespace {

bool is_letter_or_digit(char32_t c) {
  if (c < 0x80) return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  // Punctuation and spaces of the blocks that texts have; everything else beyond ASCII counts as a letter.
  return !(c < 0xC0 || c == 0xD7 || c == 0xF7 || (c >= 0x2000 && c <= 0x206F) || (c >= 0x3000 && c <= 0x3004) ||
           (c >= 0x3008 && c <= 0x3020) || (c >= 0xFF00 && c <= 0xFF0F) || (c >= 0xFF1A && c <= 0xFF20) ||
           (c >= 0xFF3B && c <= 0xFF40) || (c >= 0xFF5B && c <= 0xFF65) || c == 0xFEFF || c == 0xFFFD);
}

bool stands_alone(char32_t c) {  // kana, Han
  return (c >= 0x3005 && c <= 0x30FF) || (c >= 0x3400 && c <= 0x9FFF) || (c >= 0xF900 && c <= 0xFAFF) ||
         (c >= 0xFF66 && c <= 0xFF9F) || (c >= 0x20000 && c <= 0x3FFFF);
}

uint64_t hash_word(std::string_view word) {  // FNV-1a
  uint64_t h = 0xcbf29ce484222325u;
  for (char c : word) h = (h ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return h;
}

// Hashes of all runs of 13 words, in order.
std::vector<uint64_t> run_hashes(const std::vector<std::string>& words) {
  if (words.size() < kOverlapWords) return {};
  std::vector<uint64_t> hashes(words.size()), runs(words.size() - kOverlapWords + 1);
  for (size_t i = 0; i < words.size(); ++i) hashes[i] = hash_word(words[i]);
  for (size_t i = 0; i < runs.size(); ++i) {
    uint64_t h = 0;
    for (size_t j = 0; j < kOverlapWords; ++j) h = (h ^ hashes[i + j]) * 0x9E3779B97F4A7C15u + (h >> 29);
    runs[i] = h;
  }
  return runs;
}

}  // namespace

std::vector<std::string> overlap_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  const auto finish = [&] {
    if (!word.empty()) words.push_back(std::move(word));
    word.clear();
  };
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_char_length(text, at);
    if (length == 0) {
      finish();
      ++at;
      continue;
    }
    char32_t c = utf8_code_point(text, at, length);
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    if (!is_letter_or_digit(c)) {
      finish();
    } else if (stands_alone(c)) {
      finish();
      words.emplace_back(text.substr(at, length));
    } else {
      append_utf8(word, c);
    }
    at += length;
  }
  finish();
  return words;
}

void OverlapIndex::add(std::string_view text) {
  for (uint64_t h : run_hashes(overlap_words(text))) runs_.insert(h);
}

Overlap OverlapIndex::overlap(std::string_view text) const {
  const std::vector<std::string> words = overlap_words(text);
  const std::vector<uint64_t> runs = run_hashes(words);
  Overlap o;
  o.n_runs = runs.size();
  for (size_t i = 0; i < runs.size(); ++i) {
    if (!runs_.contains(runs[i])) continue;
    if (++o.n_shared > 1) continue;
    for (size_t j = 0; j < kOverlapWords; ++j) o.first_shared += (j ? " " : "") + words[i + j];
  }
  return o;
}

Json to_json(const Overlap& o) {
  return {{"share", o.share()}, {"runs", o.n_runs}, {"shared", o.n_shared}, {"first", o.first_shared}};
}

}  // namespace tsubu
