#include "evaluate/certify_runs.h"

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"
#include "evaluate/paired.h"
#include "evaluate/remarks.h"

namespace tsubu {

Chunks read_chunks(const std::vector<std::string>& paths, const Tokenizer& tokenizer, uint32_t context, uint32_t limit,
                   std::vector<TextSource>& sources, std::vector<std::string>& contents) {
  Chunks chunks;
  for (const std::string& path : paths) {
    contents.push_back(read_text_file(path));
    const std::string& text = contents.back();
    const std::vector<TokenId> tokens = tokenizer.encode(text);
    uint32_t n = static_cast<uint32_t>(tokens.size() / context);
    if (limit > 0) n = std::min(n, limit);
    if (n == 0)
      fail(ExitCode::kUsage, "{}: {} tokens are fewer than one chunk of {}: give a longer text or a smaller --ctx",
           path, tokens.size(), context);
    chunks.tokens.insert(chunks.tokens.end(), tokens.begin(),
                         tokens.begin() + static_cast<ptrdiff_t>(uint64_t{n} * context));
    for (uint32_t i = 0; i < n; ++i) {
      chunks.text_of.push_back(static_cast<uint32_t>(sources.size()));
      chunks.first_token.push_back(uint64_t{i} * context);
    }
    sources.push_back({path, hash_bytes(std::as_bytes(std::span(text))), text.size(), tokens.size(), n});
  }
  return chunks;
}

Runner::Runner(const Model& model, const ChunkProtocol& protocol, bool act_int8, bool bf16_products, ThreadPool& pool) {
  EngineOptions options;
  options.act_int8 = options.kv_f16 = act_int8;
  options.bf16_products = bf16_products;
  engine = Engine::make(model, pool, options);
  session = engine->new_session(protocol.context);
  logits.resize(protocol.n_scored() * engine->n_vocab());
}

void Runner::run(std::span<const TokenId> input, const ChunkProtocol& protocol) {
  session->truncate(0);
  engine->forward(*session, input.first(protocol.context - 1), protocol.n_scored(), logits);
}

AllScores score_chunks(const Chunks& chunks, size_t n_chunks, const ChunkProtocol& protocol, Runner& base,
                       std::vector<Runner>& candidates, const std::string& label, ThreadPool& pool) {
  AllScores all;
  all.scores.resize(candidates.size());
  all.blocks.resize(candidates.size());
  all.errors.resize(candidates.size());
  Progress progress(label, n_chunks * protocol.context * (1 + candidates.size()), "tokens");
  for (size_t chunk = 0; chunk < n_chunks; ++chunk) {
    throw_if_interrupted();
    const std::vector<TokenId> input = chunk_input(chunks.tokens, chunk, protocol);
    base.run(input, protocol);
    const uint64_t position = chunks.first_token[chunk] + protocol.first;
    score_chunk(base.logits, {}, input, protocol, position, pool);  // the base's own damage is not the candidate's
    for (size_t c = 0; c < candidates.size(); ++c) {
      if (!all.errors[c].empty()) continue;
      candidates[c].run(input, protocol);
      try {
        const auto scores = score_chunk(candidates[c].logits, base.logits, input, protocol, position, pool);
        all.blocks[c].push_back(sums_of(scores));
        all.scores[c].insert(all.scores[c].end(), scores.begin(), scores.end());
      } catch (const NotFinite& e) {
        all.errors[c] = remark("runs.logits"_said, {std::to_string(e.position)});
      }
    }
    progress.advance(protocol.context * (1 + candidates.size()));
  }
  progress.finish();
  return all;
}

void set_divergence(const TextRun& run, size_t candidate, uint64_t seed, CertifyResult& r) {
  const std::span<const TokenScore> scores = run.all.scores[candidate];
  const std::span<const BlockSums> blocks = run.all.blocks[candidate];
  const size_t n_scored = run.protocol.n_scored();
  CandidateResult& c = r.candidates[candidate];
  c.divergence = divergence_of(scores, blocks, r.options.eval.n_bootstrap, seed);
  c.by_text.clear();
  for (size_t begin = 0; begin < blocks.size();) {
    const uint32_t text = run.chunks.text_of[begin];
    size_t end = begin;
    while (end < blocks.size() && run.chunks.text_of[end] == text) ++end;
    const size_t n = end - begin;
    c.by_text.push_back({r.texts[text].path, n * n_scored,
                         divergence_of(scores.subspan(begin * n_scored, n * n_scored), blocks.subspan(begin, n),
                                       r.options.eval.n_bootstrap, seed)});
    begin = end;
  }
}

void score_tasks(const Models& models, const Model& base, CertifyResult& r, ThreadPool& pool) {
  r.base_tasks.clear();
  for (CandidateResult& c : r.candidates) c.task_scores.clear();
  for (const Task& task : r.tasks) {
    r.base_tasks.push_back(score_task(task, base, r.options.eval.act_int8, pool));
    for (size_t c = 0; c < models.size(); ++c) {
      CandidateResult& candidate = r.candidates[c];
      if (!candidate.error.empty()) continue;
      try {
        candidate.task_scores.push_back(score_task(task, *models[c], r.options.eval.act_int8, pool));
      } catch (const Error& e) {
        if (e.code() != ExitCode::kNumeric) throw;
        candidate.error = remark("runs.questions"_said);
      }
    }
  }
}

namespace {

void adjust(std::vector<CandidateResult>& candidates, double TaskResult::*p, double TaskResult::*adjusted) {
  std::vector<double> all;
  for (const CandidateResult& c : candidates)
    for (const TaskResult& t : c.tasks) all.push_back(t.*p);
  const std::vector<double> result = holm(all);
  size_t i = 0;
  for (CandidateResult& c : candidates)
    for (TaskResult& t : c.tasks) t.*adjusted = result[i++];
}

}  // namespace

void compare_tasks(CertifyResult& r) {
  const auto margin = r.options.limits.find("margin");
  for (CandidateResult& candidate : r.candidates) {
    candidate.tasks.clear();
    for (uint32_t t = 0; t < candidate.task_scores.size(); ++t) {
      TaskResult result;
      result.task = t;
      result.comparison = compare_task(r.tasks[t], r.base_tasks[t], candidate.task_scores[t]);
      const PairedCounts& counts = counted(r.tasks[t], result.comparison);
      result.p = mcnemar_exact(counts.lost, counts.gained);
      result.difference_ci95 = paired_interval(counts);
      if (margin != r.options.limits.end()) result.non_inferior_p = non_inferiority_p(counts, margin->second);
      candidate.tasks.push_back(std::move(result));
    }
  }
  adjust(r.candidates, &TaskResult::p, &TaskResult::holm_p);
  adjust(r.candidates, &TaskResult::non_inferior_p, &TaskResult::non_inferior_holm_p);
}

}  // namespace tsubu
