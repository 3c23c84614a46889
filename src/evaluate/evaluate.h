// Perplexity of a model, and its divergence from a base model over the same tokens.
// Protocol (default, llama.cpp's): the text is tokenized once (with BOS when the vocabulary adds it) and cut into chunks
// of `context` tokens; each chunk starts with BOS in place of its first token when the vocabulary adds one; positions
// context/2 … context-2 are scored (each predicts the next token). Protocol "paper": windows of `context` (2048), all
// tokens scored.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "engine/engine.h"

namespace tsubu {

enum class EvalProtocol { kLlamaCpp, kPaper };

struct EvalOptions {
  EvalProtocol protocol = EvalProtocol::kLlamaCpp;
  uint32_t context = 512;    // clipped to the model's own context with a note
  uint32_t max_chunks = 0;   // 0: all
  bool act_int8 = false;     // candidate (and base: act_int8_base)
  bool act_int8_base = false;
  Numerics numerics;         // of the candidate; the base is computed in floats
  bool bf16_products = false;  // of both models (EngineOptions); not with act_int8 or numerics
  uint64_t seed = 1;         // of the bootstrap
  uint32_t n_bootstrap = 1000;
};

struct Interval { double low = 0, high = 0; };

struct PerplexityResult { double mean = 0, stderr_ = 0, mean_nll = 0; };

struct DivergenceResult {
  double mean = 0, median = 0, p90 = 0, p95 = 0, p99 = 0, p999 = 0, max = 0;
  Interval mean_ci95;                  // block bootstrap over chunks
  double top1_agreement = 0;           // share in [0, 1]
  Interval top1_ci95;
  double rms_delta_p = 0;              // of the correct token's probability
  double ln_ppl_ratio = 0;             // ln(PPL(candidate) / PPL(base))
  Interval ln_ppl_ratio_ci95;
};

struct EvalResult {
  PerplexityResult perplexity;         // of the candidate (the only model when there is no base)
  bool has_base = false;
  PerplexityResult base_perplexity;
  DivergenceResult divergence;
  uint64_t n_tokens_scored = 0, n_tokens = 0;
  uint32_t n_chunks = 0, context = 0;
  uint64_t kv_cache_bytes = 0;         // of the candidate, for one chunk
  uint64_t quantized_bytes = 0;        // of its weights in a scheme, in memory
  double bf16_noise = 0;               // with bf16_products: KL(f32 ‖ bf16 products) of the base, or else the model; first 64 tokens
  double seconds = 0, tokens_per_second = 0;
};

// Mean KL(base ‖ candidate) in nats over rows of logits (n_rows × n_vocab each).
double mean_kl_divergence(std::span<const float> base, std::span<const float> candidate, size_t n_vocab,
                          ThreadPool& pool);

// tokens: the tokenized text. base may be nullptr. Throws Error(kUsage) when the text is shorter than one chunk, and
// Error(kBadInput) when the vocabularies of the two models differ, Error(kNumeric) on NaN logits.
EvalResult evaluate(const Model& candidate, const Model* base, std::span<const TokenId> tokens,
                    const EvalOptions& options, ThreadPool& pool);
Json to_json(const EvalResult& result);      // keys as in the design: perplexity.{mean,stderr}, divergence.{…}, …
std::string protocol_line(const EvalResult& result, const EvalOptions& options);  // one line that says how it was measured

struct SpeedOptions { uint32_t n_prefill = 512, n_decode = 128, repeats = 3; bool act_int8 = false; Numerics numerics; bool bf16_products = false; };
struct SpeedResult {
  double prefill_tps = 0, decode_tps = 0;           // medians
  double prefill_min = 0, prefill_max = 0, decode_min = 0, decode_max = 0;
  double bandwidth_gb_s = 0, gflops_f32 = 0;        // measured limits of this machine with this many threads
  double prefill_limit_tps = 0, decode_limit_tps = 0;
  uint64_t weight_bytes = 0, peak_rss_bytes = 0;
  double load_seconds = 0;
  double prefill_joules = 0, decode_joules = 0;     // for each token, of the whole machine, over all repeats
  std::string no_energy;                            // why they are not measured
};
SpeedResult measure_speed(const Model& model, const SpeedOptions& options, ThreadPool& pool);
Json to_json(const SpeedResult& result);

}  // namespace tsubu
