// Speed of a model beside the limits of the machine, both measured in this run with the same threads.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "base/aligned.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/progress.h"
#include "evaluate/energy.h"
#include "evaluate/evaluate.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

// Bytes per second that all threads together read from a buffer much larger than the caches: best of passes. Rows times one
// vector, as in decoding: one row after another, or one sum over all of them, waits for its additions and not for the memory.
double read_bandwidth(ThreadPool& pool) {
  constexpr size_t kBytes = size_t{512} << 20, kCols = 2048, kRows = 64, kSlice = kRows * kCols * sizeof(float), kPasses = 5;
  const AlignedVector<float> data(kBytes / sizeof(float), 1.0f), x(kCols, 0.5f);
  AlignedVector<float> sums(kBytes / kSlice * kRows);
  double best = 0;
  for (size_t pass = 0; pass < kPasses; ++pass) {
    const auto start = Clock::now();
    pool.parallel_for(kBytes / kSlice, [&](size_t i, int) {
      kernels().gemm_nt(data.data() + i * kRows * kCols, kCols, x.data(), kCols, sums.data() + i * kRows, kRows, kRows, 1,
                        kCols);
    });
    best = std::max(best, static_cast<double>(kBytes) / seconds_since(start));
  }
  return best;
}

constexpr std::chrono::milliseconds kIdle{500};  // the machine without work, for its energy

// Multiply-adds per second of the f32 product on operands that stay in the caches: best of three.
double fma_rate(ThreadPool& pool) {
  constexpr size_t kRows = 64, kTokens = 96, kCols = 512;
  const auto n_threads = static_cast<size_t>(pool.size());
  std::vector<float> w(kRows * kCols, 0.5f), x(kTokens * kCols, 0.25f), c(n_threads * kRows * kTokens);
  double best = 0;
  for (int pass = 0; pass < 3; ++pass) {
    constexpr size_t kRepeats = 40;
    const auto start = Clock::now();
    pool.parallel_for(n_threads * kRepeats, [&](size_t, int worker) {
      kernels().gemm_nt(w.data(), kCols, x.data(), kCols, c.data() + static_cast<size_t>(worker) * kRows * kTokens,
                        kRows, kRows, kTokens, kCols);
    });
    best = std::max(best, static_cast<double>(n_threads * kRepeats * kRows * kTokens * kCols) / seconds_since(start));
  }
  return best;
}

}  // namespace

SpeedResult measure_speed(const Model& model, const SpeedOptions& options, ThreadPool& pool) {
  SpeedResult r;
  const auto loading = Clock::now();
  EngineOptions engine_options;
  engine_options.act_int8 = engine_options.kv_f16 = options.act_int8;
  engine_options.numerics = options.numerics;
  engine_options.bf16_products = options.bf16_products;
  const auto engine = Engine::make(model, pool, engine_options);
  r.load_seconds = seconds_since(loading);
  const uint32_t n_ctx = std::max(2u, model.hparams().n_ctx);
  const uint32_t n_prefill = std::min(options.n_prefill, n_ctx / 2),
                 n_decode = std::min(options.n_decode, n_ctx - n_prefill);
  if (n_prefill < options.n_prefill || n_decode < options.n_decode)
    note(fmt::format("the model's context is {}: measuring prefill {} and decode {}", n_ctx, n_prefill, n_decode));
  std::vector<TokenId> tokens(n_prefill);
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<TokenId>((i * 7919 + 11) % model.hparams().n_vocab);
  std::vector<float> logits(engine->n_vocab());
  const auto session = engine->new_session(n_prefill + n_decode);

  std::vector<double> prefill, decode;
  EnergyMeter energy;
  r.no_energy = energy.why_not();
  if (energy.available()) {
    energy.start();
    const auto start = Clock::now();
    std::this_thread::sleep_for(kIdle);
    r.idle_watts = energy.joules() / seconds_since(start);
  }
  for (uint32_t repeat = 0; repeat <= options.repeats; ++repeat) {  // the first warms caches and is not counted
    throw_if_interrupted();
    session->truncate(0);
    energy.start();
    auto start = Clock::now();
    engine->forward(*session, tokens, 1, logits);
    const double prefill_seconds = seconds_since(start), prefill_joules = energy.joules();
    energy.start();
    start = Clock::now();
    for (uint32_t i = 0; i < n_decode; ++i) engine->forward(*session, std::span(&tokens[i % n_prefill], 1), 1, logits);
    if (repeat == 0) continue;
    prefill.push_back(n_prefill / prefill_seconds);
    decode.push_back(n_decode / seconds_since(start));
    r.prefill_joules += prefill_joules / n_prefill / options.repeats;
    r.decode_joules += energy.joules() / n_decode / options.repeats;
  }
  r.prefill_tps = median(prefill);
  r.decode_tps = median(decode);
  std::tie(r.prefill_min, r.prefill_max) =
      std::pair(*std::min_element(prefill.begin(), prefill.end()), *std::max_element(prefill.begin(), prefill.end()));
  std::tie(r.decode_min, r.decode_max) =
      std::pair(*std::min_element(decode.begin(), decode.end()), *std::max_element(decode.begin(), decode.end()));

  r.peak_rss_bytes = peak_resident_bytes();  // before the bandwidth buffer is made
  const double bandwidth = read_bandwidth(pool), fma = fma_rate(pool);
  r.bandwidth_gb_s = bandwidth / 1e9;
  r.gflops_f32 = 2 * fma / 1e9;
  // A decoded token reads every matrix once. A prefilled one costs a multiply-add for each weight of the linears up to
  // the last attention: what comes after it is computed for the token with logits alone.
  const std::string head = head_weight_name(model);
  uint64_t bytes = 0;
  for (const ModelTensor& t : model.tensors()) {
    if (t.spec().shape.size() < 2) continue;
    r.weight_bytes += t.size_bytes();
    const bool only_looked_up =
        t.spec().role == Role::kPositionEmbedding || (t.spec().role == Role::kTokenEmbedding && t.name() != head);
    if (!only_looked_up) bytes += t.size_bytes();
  }
  uint64_t weights = 0, before_attention = 0;
  for (const Op& op : model.graph().ops) {
    if (op.kind == OpKind::kLinear) before_attention += model.tensor(op.weight).n_elements();
    if (op.kind == OpKind::kAttention) weights = before_attention;
  }
  r.decode_limit_tps = bandwidth / static_cast<double>(bytes);
  if (weights > 0) r.prefill_limit_tps = fma / static_cast<double>(weights);
  return r;
}

Json to_json(const SpeedResult& r) {
  Json json;
  json["prefill"] = {{"tokens_per_second", r.prefill_tps},
                     {"min", r.prefill_min},
                     {"max", r.prefill_max},
                     {"share_of_limit", r.prefill_limit_tps > 0 ? r.prefill_tps / r.prefill_limit_tps : 0}};
  json["decode"] = {{"tokens_per_second", r.decode_tps},
                    {"min", r.decode_min},
                    {"max", r.decode_max},
                    {"share_of_limit", r.decode_tps / r.decode_limit_tps}};
  json["limits"] = {{"read_gb_per_second", r.bandwidth_gb_s},
                    {"f32_gflops", r.gflops_f32},
                    {"prefill_tokens_per_second", r.prefill_limit_tps},
                    {"decode_tokens_per_second", r.decode_limit_tps}};
  json["weight_bytes"] = r.weight_bytes;
  json["peak_rss_bytes"] = r.peak_rss_bytes;
  json["load_seconds"] = r.load_seconds;
  if (r.no_energy.empty())
    json["energy"] = {{"prefill_joules_per_token", r.prefill_joules},
                      {"decode_joules_per_token", r.decode_joules},
                      {"idle_watts", r.idle_watts},
                      {"prefill_joules_per_token_above_idle", std::max(0.0, r.prefill_joules - r.idle_watts / r.prefill_tps)},
                      {"decode_joules_per_token_above_idle", std::max(0.0, r.decode_joules - r.idle_watts / r.decode_tps)}};
  else
    json["energy"] = {{"not_measured", to_json(r.no_energy)}};
  return json;
}

}  // namespace tsubu
