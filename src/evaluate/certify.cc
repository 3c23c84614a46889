#include "evaluate/certify.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"
#include "engine/engine.h"
#include "evaluate/certify_gates.h"
#include "evaluate/certify_runs.h"
#include "evaluate/certify_stability.h"
#include "evaluate/paired.h"
#include "evaluate/remarks.h"

namespace tsubu {
namespace {

constexpr size_t kWorstTokens = 20;
constexpr size_t kTokensBefore = 12;         // shown before a worst token
constexpr uint32_t kFloorChunks = 4;         // that the noise floor is measured on
constexpr uint32_t kCalibrationChunks = 16;  // of calibration text, for the gap
std::vector<uint64_t> histogram_of(std::span<const TokenScore> scores) {
  std::vector<uint64_t> counts(kHistogramBins);
  for (const TokenScore& s : scores) {
    const double log = s.kld > 0 ? std::log10(static_cast<double>(s.kld)) : kHistogramFirst;
    const double bin = std::clamp((log - kHistogramFirst) / kHistogramStep, 0.0, kHistogramBins - 1.0);
    ++counts[static_cast<size_t>(bin)];
  }
  return counts;
}

std::vector<WorstToken> worst_tokens(std::span<const TokenScore> scores, const Chunks& chunks,
                                     const std::vector<TextSource>& texts, const ChunkProtocol& protocol,
                                     const Tokenizer& tokenizer) {
  std::vector<size_t> order(scores.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  const size_t n = std::min(kWorstTokens, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<ptrdiff_t>(n), order.end(), [&](size_t a, size_t b) {
    return scores[a].kld != scores[b].kld ? scores[a].kld > scores[b].kld : a < b;
  });
  std::vector<WorstToken> worst;
  for (size_t k = 0; k < n; ++k) {
    const TokenScore& s = scores[order[k]];
    if (s.kld <= 0) break;
    const size_t chunk = order[k] / protocol.n_scored(), at = protocol.first + order[k] % protocol.n_scored() + 1;
    const std::vector<TokenId> input = chunk_input(chunks.tokens, chunk, protocol);
    const size_t from = at > kTokensBefore ? at - kTokensBefore : 0;
    WorstToken w;
    w.text = texts[chunks.text_of[chunk]].path;
    w.position = chunks.first_token[chunk] + at;
    w.before = tokenizer.decode(std::span(input).subspan(from, at - from));
    w.actual = tokenizer.piece(input[at]);
    w.base_top = tokenizer.piece(s.base_top);
    w.top = tokenizer.piece(s.top);
    w.kld = static_cast<double>(s.kld);
    w.base_p = std::exp(-static_cast<double>(s.base_nll));
    w.p = std::exp(-static_cast<double>(s.nll));
    w.base_top_p = static_cast<double>(s.base_top_p);
    w.top_p = static_cast<double>(s.top_p);
    worst.push_back(std::move(w));
  }
  return worst;
}

std::vector<std::string> hashes_of(const Model& model) {
  std::vector<std::string> hashes;
  for (const std::string& file : model.files()) hashes.push_back(hash_file(file));
  return hashes;
}

std::map<std::string, uint64_t> weights_by_type(const Model& model) {
  std::map<std::string, uint64_t> weights;
  for (const ModelTensor& t : model.tensors()) weights[stored_type(t)] += t.n_elements();
  return weights;
}

std::string main_type(const Model& model) {
  const std::map<std::string, uint64_t> weights = weights_by_type(model);
  return std::max_element(weights.begin(), weights.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

// How a file was made, from its metadata.
std::vector<Remark> made_how(const Model& model) {
  std::vector<Remark> made;
  const auto text = [&](const char* key) {
    const GgufValue* v = model.gguf_metadata().find(key);
    const std::string* s = v ? v->as_string() : nullptr;
    return s ? *s : std::string();
  };
  if (const std::string how = transforms_of(model); !how.empty()) made.push_back(remark("made.transformed"_said, {how}));
  if (const std::string recipe = text("tsubu.recipe"); !recipe.empty()) made.push_back(remark("made.recipe"_said, {recipe}));
  const GgufValue *texts = model.gguf_metadata().find("tsubu.calibration.texts"), *tokens = model.gguf_metadata().find("tsubu.calibration.tokens");
  const GgufArray* names = texts ? texts->as_array() : nullptr;
  if (names && tokens) {
    std::string list;  // each is "name hash"
    for (const std::string& name : names->strings) list += (list.empty() ? "" : ", ") + name.substr(0, name.rfind(' '));
    made.push_back(remark("made.calibrated"_said, {std::to_string(tokens->as_uint().value_or(0)), list}));
  }
  if (const std::string file = text("quantize.imatrix.file"); !file.empty()) made.push_back(remark("made.importance"_said, {file}));
  if (const std::string how = text("tsubu.training"); !how.empty()) made.push_back(remark("made.trained"_said, {how}));
  return made;
}

double bits_per_weight(const Model& model) {
  return 8.0 * static_cast<double>(model.weight_bytes()) / static_cast<double>(model.n_parameters());
}

// The base against itself: run again with another cut into calls and f32 products, and with activations and cache as a runtime rounds
// them.
void measure_floor(const Model& base, const Chunks& chunks, const ChunkProtocol& protocol, Runner& runner,
                   ThreadPool& pool, CertifyResult& r) {
  Runner again(base, protocol, r.options.eval.act_int8, false, pool), rounded(base, protocol, true, false, pool);
  const size_t n = std::min<size_t>(kFloorChunks, chunks.text_of.size()), n_vocab = runner.engine->n_vocab();
  for (size_t chunk = 0; chunk < n; ++chunk) {
    throw_if_interrupted();
    const std::vector<TokenId> input = chunk_input(chunks.tokens, chunk, protocol);
    runner.run(input, protocol);
    again.session->truncate(0);
    const size_t cut = protocol.context - 1 - protocol.n_scored();
    if (cut > 0) again.engine->forward(*again.session, std::span(input).first(cut), 0, {});
    again.engine->forward(*again.session, std::span(input).subspan(cut, protocol.n_scored()), protocol.n_scored(),
                          again.logits);
    rounded.run(input, protocol);
    r.floor_repeat += mean_kl_divergence(runner.logits, again.logits, n_vocab, pool) / static_cast<double>(n);
    r.floor_runtime += mean_kl_divergence(runner.logits, rounded.logits, n_vocab, pool) / static_cast<double>(n);
  }
}

// Share of the certification texts that stands in calibration text: the given one, or what the candidate says it was
// calibrated with.
void check_overlap(const Model& model, const OverlapIndex& index, const std::vector<std::string>& contents,
                   const CertifyResult& r, CandidateResult& c) {
  for (size_t i = 0; i < contents.size(); ++i) {
    const double share = index.empty() ? 0 : index.overlap(contents[i]).share();
    if (share > c.overlap) std::tie(c.overlap, c.overlap_with) = std::pair(share, r.texts[i].path);
  }
  const GgufValue* used = model.gguf_metadata().find("tsubu.calibration.texts");
  const GgufArray* names = used ? used->as_array() : nullptr;
  if (!names) return;
  for (const std::string& name : names->strings)
    for (const TextSource& text : r.texts)
      if (name.ends_with(text.hash)) std::tie(c.overlap, c.overlap_with) = std::pair(1.0, text.path);
}

// Whether the candidate's own tokenizer makes the base's tokens of the texts: scores, merges, space prefix, special tokens.
std::vector<Remark> check_tokenizer(const Model& model, const Tokenizer& base, const std::vector<std::string>& contents, const CertifyResult& r) {
  const auto own = model.make_tokenizer();
  for (size_t i = 0; i < contents.size(); ++i) {
    const std::vector<TokenId> wanted = base.encode(contents[i]), found = own->encode(contents[i]);
    const auto [a, b] = std::mismatch(wanted.begin(), wanted.end(), found.begin(), found.end());
    if (a == wanted.end() && b == found.end()) continue;
    const auto piece = [](const Tokenizer& t, auto at, auto end) {  // quoted
      return Json(at == end ? std::string() : t.piece(*at)).dump(-1, ' ', false, Json::error_handler_t::replace);
    };
    return {remark("configuration.tokens"_said, {r.texts[i].path, std::to_string(a - wanted.begin()), piece(base, a, wanted.end()), piece(*own, b, found.end())})};
  }
  return {};
}

void run_prompts(const Models& models, const Model& base, CertifyResult& r,
                 ThreadPool& pool) {
  if (r.prompts.empty()) return;
  const bool int8 = r.options.eval.act_int8;
  r.base_generations = generate(r.prompts, base, r.options.n_generate, int8, pool);
  for (size_t c = 0; c < models.size(); ++c) {
    CandidateResult& candidate = r.candidates[c];
    if (!candidate.error.empty()) continue;
    candidate.generations = generate(r.prompts, *models[c], r.options.n_generate, int8, pool);
    candidate.generation = compare_generations(r.base_generations, candidate.generations);
  }
}

uint32_t common_context(const Model& base, const Models& models, uint32_t wanted) {
  const auto clip = [&](const Model& m) {
    if (m.hparams().n_ctx == 0 || m.hparams().n_ctx >= wanted) return;
    wanted = m.hparams().n_ctx;
    note(fmt::format("context {} instead of the protocol's: {} has no more", wanted, m.path()));
  };
  clip(base);
  for (const auto& m : models) clip(*m);
  return wanted;
}

}  // namespace

bool CertifyResult::pass() const {
  return std::all_of(gates.begin(), gates.end(), [](const GateResult& g) { return g.ok; });
}

bool CertifyResult::pass(const std::string& candidate) const {
  return std::all_of(gates.begin(), gates.end(), [&](const GateResult& g) { return g.candidate != candidate || g.ok; });
}

std::vector<Remark> power_statement(const CertifyOptions& options, std::span<const Task> tasks) {
  std::vector<Remark> lines;
  for (const Task& t : tasks) {
    const double effect = minimum_detectable_effect(t.items.size(), options.expected_flips, options.alpha);
    lines.push_back(remark_about(t.name, "power.task"_said,
                                {std::to_string(t.items.size()), fmt::format("{:.1f}", 100 * effect), fmt::format("{:g}", options.alpha),
                                 fmt::format("{:.0f}", 100 * options.expected_flips)}));
  }
  return lines;
}

CertifyResult certify(const CertifyOptions& options, ThreadPool& pool) {
  const auto start = std::chrono::steady_clock::now();
  check_limits(options);
  CertifyResult r;
  r.options = options;
  for (const std::string& text : options.templates)
    if (text.find("{}") == std::string::npos)
      fail(ExitCode::kUsage, "--template \"{}\": expected {{}} where the question stands, such as \"Question: {{}}\\nAnswer:\"", text);
  if (!options.templates.empty() && options.tasks.empty())
    fail(ExitCode::kUsage, "--template: there are no questions to put in other words (give --tasks)");
  for (const std::string& path : options.tasks) r.tasks.push_back(read_task(path, options.task_limit));
  for (const std::string& path : options.prompts)
    for (Prompt& p : read_prompts(path)) r.prompts.push_back(std::move(p));
  for (const Remark& said : power_statement(options, r.tasks)) note(joined({&said, 1}, ""));

  const auto base = Model::open(options.base);
  std::vector<std::unique_ptr<Model>> models;
  for (const std::string& path : options.candidates) {
    models.push_back(Model::open(path));
    check_same_vocabulary(*models.back(), *base);
  }
  r.base_hashes = hashes_of(*base);
  r.base_size_bytes = base->weight_bytes();
  r.base_bits_per_weight = bits_per_weight(*base);
  r.base_type = main_type(*base);
  for (size_t c = 0; c < models.size(); ++c) {
    CandidateResult candidate;
    candidate.path = options.candidates[c];
    candidate.type = main_type(*models[c]);
    candidate.hashes = hashes_of(*models[c]);
    candidate.size_bytes = models[c]->weight_bytes();
    candidate.bits_per_weight = bits_per_weight(*models[c]);
    candidate.types = weights_by_type(*models[c]);
    candidate.made = made_how(*models[c]);
    r.candidates.push_back(std::move(candidate));
  }

  std::optional<TextRun> texts;
  std::vector<std::vector<Remark>> tokenizers(models.size());
  if (!options.texts.empty()) {
    r.context = common_context(*base, models, options.eval.context);
    if (r.context < 4) fail(ExitCode::kUsage, "a context of {} tokens is too short to score anything", r.context);
    const auto tokenizer = base->make_tokenizer();
    texts.emplace();
    const ChunkProtocol& protocol = texts->protocol =
        chunk_protocol(options.eval.protocol, r.context, base->vocabulary());
    std::vector<std::string> contents, calibration;
    const Chunks& chunks = texts->chunks =
        read_chunks(options.texts, *tokenizer, r.context, options.eval.max_chunks, r.texts, contents);
    r.n_chunks = static_cast<uint32_t>(chunks.text_of.size());
    r.n_tokens_scored = r.n_chunks * protocol.n_scored();
    for (size_t c = 0; c < models.size(); ++c) tokenizers[c] = check_tokenizer(*models[c], *tokenizer, contents, r);
    Runner base_runner(*base, protocol, options.eval.act_int8, options.eval.bf16_products, pool);
    std::vector<Runner> runners;
    for (const auto& m : models) runners.emplace_back(*m, protocol, options.eval.act_int8, options.eval.bf16_products, pool);
    measure_floor(*base, chunks, protocol, base_runner, pool, r);
    const AllScores& all = texts->all =
        score_chunks(chunks, chunks.text_of.size(), protocol, base_runner, runners, "certify", pool);
    OverlapIndex index;
    AllScores seen;
    if (!options.calibration_texts.empty()) {
      const Chunks part = read_chunks(options.calibration_texts, *tokenizer, r.context, kCalibrationChunks,
                                      r.calibration_texts, calibration);
      for (const std::string& text : calibration) index.add(text);
      seen = score_chunks(part, part.text_of.size(), protocol, base_runner, runners, "calibration text", pool);
    }
    for (size_t c = 0; c < models.size(); ++c) {
      CandidateResult& candidate = r.candidates[c];
      candidate.error = all.errors[c];
      check_overlap(*models[c], index, contents, r, candidate);
      if (!candidate.error.empty()) continue;
      const std::span<const TokenScore> scores = all.scores[c];
      candidate.perplexity = perplexity_of(scores, &TokenScore::nll);
      r.base_perplexity = perplexity_of(scores, &TokenScore::base_nll);
      set_divergence(*texts, c, options.eval.seed, r);
      candidate.histogram = histogram_of(scores);
      candidate.worst_tokens = worst_tokens(scores, chunks, r.texts, protocol, *tokenizer);
      if (!options.calibration_texts.empty() && seen.errors[c].empty()) {
        BlockSums sum;
        for (const BlockSums& b : seen.blocks[c]) sum.kld += b.kld, sum.n += b.n;
        candidate.calibration_kld = sum.kld / sum.n;
      }
    }
  }
  score_tasks(models, *base, r, pool);
  compare_tasks(r);
  run_templates(models, *base, r, pool);
  run_prompts(models, *base, r, pool);
  const Rerun again = run_again(models, *base, texts, r, pool);
  if (options.weights)
    for (size_t c = 0; c < models.size(); ++c) {
      WeightDifferences& w = r.candidates[c].weights.emplace(compare_weights(*base, *models[c], pool));
      w.configuration.insert(w.configuration.end(), tokenizers[c].begin(), tokenizers[c].end());
    }
  models.clear();  // what bench measures in a process of its own should have the memory
  if (options.measure_speed) {
    r.base_speed = options.measure_speed(options.base);
    for (CandidateResult& c : r.candidates) c.speed = options.measure_speed(c.path);
  }
  judge(r);
  judge_seeds(texts, r);
  judge_templates(r);
  judge_threads(again, texts, r);
  r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return r;
}

std::vector<Remark> protocol_of(const CertifyResult& r) {
  const CertifyOptions& o = r.options;
  std::vector<Remark> parts;
  const auto n = [](uint64_t v) { return std::to_string(v); };
  if (r.n_chunks > 0) {
    parts.push_back(remark("protocol.chunks"_said, {n(r.n_chunks), n(r.context)}));
    parts.push_back(o.eval.protocol == EvalProtocol::kPaper ? remark("protocol.every_position"_said) : remark("protocol.second_half"_said));
    parts.push_back(remark("protocol.scored"_said, {n(r.n_tokens_scored)}));
    parts.push_back(remark("protocol.kld"_said));
    parts.push_back(o.eval.act_int8 ? remark("protocol.activations_8"_said) : remark("protocol.activations"_said, {"f32"}));
    if (o.eval.bf16_products) parts.push_back(remark("protocol.bf16"_said));
    parts.push_back(remark("protocol.intervals"_said, {n(o.eval.n_bootstrap), n(o.eval.seed)}));
  }
  if (!r.tasks.empty()) parts.push_back(remark("protocol.questions"_said, {n(r.tasks.size() * r.candidates.size())}));
  if (!r.prompts.empty()) parts.push_back(remark("protocol.prompts"_said, {n(r.prompts.size()), n(o.n_generate)}));
  return parts;
}

}  // namespace tsubu
