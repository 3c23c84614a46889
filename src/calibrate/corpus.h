// Calibration text: files, tokenized once and cut to chunks of `context` tokens, with what is needed to say later which
// text it was.
// A text is tokenized with BOS where the vocabulary adds it and cut from its start, what is left over at the end is not
// used, and BOS replaces the first token of every chunk where the vocabulary adds one: the chunks llama.cpp's imatrix
// tool works on. Control tokens written out in a text are plain text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/model.h"

namespace tsubu {

struct CorpusText {
  std::string path;
  double weight = 1;  // share of the chunks, relative to the other texts
};

struct CorpusOptions {
  std::vector<CorpusText> texts;
  uint32_t context = 512;   // clipped to the model's own, with a note
  uint32_t max_chunks = 0;  // in all; 0: no limit
};

struct CorpusSource {
  std::string path, hash;              // of the bytes (base/hash.h)
  uint64_t n_bytes = 0, n_tokens = 0;  // of the whole text
  double weight = 1;
  uint32_t n_chunks = 0;  // used
};

struct Corpus {
  uint32_t context = 0;
  std::vector<std::vector<TokenId>> chunks;  // each of `context` tokens, text after text, each from its start
  std::vector<CorpusSource> sources;
  std::string hash;  // of all tokens and the context: two runs over the same chunks have the same
  uint64_t n_tokens() const { return chunks.size() * uint64_t{context}; }
};

// "F" or "F:0.5". A file that exists under the whole name is that file. Throws Error(kUsage) on a weight that is not
// a positive number.
CorpusText parse_corpus_text(std::string_view argument);

// Shares of n chunks by weight (largest remainder, earlier texts first among equals); what a text cannot give goes to
// the others. limit 0: every text whole when all weights are equal, else as many chunks as keep the shares.
std::vector<uint32_t> share_chunks(const std::vector<uint32_t>& available, const std::vector<double>& weights,
                                   uint32_t limit);

// Throws Error(kIo) when a text cannot be read, Error(kUsage) when there is no text or one has less than a chunk.
Corpus read_corpus(const Model& model, const CorpusOptions& options);
Json to_json(const CorpusSource& source);

}  // namespace tsubu
