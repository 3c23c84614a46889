#include "calibrate/calibrate.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"
#include "base/size.h"
#include "calibrate/collector.h"
#include "calibrate/fisher.h"
#include "calibrate/statistics.h"
#include "calibrate/work_directory.h"
#include "container/imatrix.h"

namespace tsubu {
namespace {

constexpr size_t kFisherRows = 4096;  // of a block of output gradients, at most

// Blocks [first, last) and their inputs.
struct Pass {
  size_t first_block, last_block, first_input, last_input;
};

// Consecutive blocks whose Gram sums fit `memory`, at least one block each; the head's input goes with the last block.
std::vector<Pass> make_passes(const std::vector<StatisticsInput>& inputs, size_t n_blocks, const CalibrateOptions& o) {
  if (!o.gram || n_blocks == 0) return {{0, n_blocks, 0, inputs.size()}};
  std::vector<uint64_t> bytes(n_blocks, 0);
  std::vector<size_t> end(n_blocks, 0);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const size_t block = std::min(inputs[i].block, n_blocks - 1);
    if (inputs[i].n_experts == 0) bytes[block] += GramAccumulator::size_bytes(inputs[i].n_cols, inputs[i].n_cols, true);
    end[block] = i + 1;
  }
  std::vector<Pass> passes;
  uint64_t held = 0;
  for (size_t b = 0; b < n_blocks; ++b) {
    if (passes.empty() || held + bytes[b] > o.memory) {
      passes.push_back({b, b, b == 0 ? 0 : end[b - 1], 0});
      held = 0;
    }
    held += bytes[b];
    passes.back().last_block = b + 1;
    passes.back().last_input = end[b];
  }
  return passes;
}

class Run {
 public:
  Run(const Model& model, const CalibrateOptions& options, ThreadPool& pool)
      : model_(model),
        options_(options),
        pool_(pool),
        corpus_(read_corpus(model, options.corpus)),
        collector_(statistics_inputs(model, n_blocks_of(model), options.process_output), pool),
        engine_(Engine::make(model, pool, {.observer = &collector_})),
        passes_(make_passes(collector_.inputs(), engine_->n_blocks(), options)) {
    for (const std::string& file : model.files()) {
      if (same_file(file, options.output)) fail(ExitCode::kUsage, "{}: the output is the model itself", options.output);
      model_hashes_.push_back(hash_file(file));
    }
    for (const CorpusText& text : options.corpus.texts)
      if (same_file(text.path, options.output))
        fail(ExitCode::kUsage, "{}: the output is one of the texts", options.output);
    by_blocks_ = engine_->stream_width() > 0;
    if (passes_.size() > 1 && !by_blocks_)
      fail(ExitCode::kUnsupported, "{}: its blocks cannot be run a few at a time: give more --memory than {}",
           model.path(), format_size(options.memory));
  }

  CalibrateResult run() {
    WorkDirectory work(calibration_work_directory(options_.output), key());
    WorkState state;
    const bool resumed = work.find(state);
    CalibrateResult result;
    const size_t n_chunks = corpus_.chunks.size();
    if (resumed) {
      note(fmt::format("going on from {}: chunk {} of {}, pass {} of {}", work.path(), state.chunk, n_chunks,
                       state.pass + 1, passes_.size()));
      for (size_t p = 0; p < state.pass; ++p) result.resumed_tokens += share_of(p, n_chunks);
      result.resumed_tokens += share_of(state.pass, state.chunk);
    }
    uint64_t total = 0;
    for (size_t p = 0; p < passes_.size(); ++p) total += share_of(p, n_chunks);
    const auto session = engine_->new_session(corpus_.context);
    Progress progress("calibrate", total - result.resumed_tokens, passes_.size() > 1 ? "tokens·blocks" : "tokens");
    bool load = resumed;
    for (; state.pass < passes_.size(); ++state.pass, state.chunk = 0) {
      const Pass& pass = passes_[state.pass];
      collector_.select(pass.first_input, pass.last_input, options_.gram);
      if (load) collector_.load(work.sums_path());
      load = false;
      run_pass(state, work, *session, progress);
      if (state.pass + 1 < passes_.size()) finish_pass(state.pass, work);
    }
    progress.finish();
    result.seconds = progress.seconds();
    if (options_.fisher) result.fisher_tokens = collect_fisher({passes_.size() - 1, n_chunks}, work);
    result.size_bytes = options_.legacy ? write_legacy() : write_gguf(work);
    work.remove();
    fill(result);
    result.tokens_per_second = static_cast<double>(result.n_tokens) *
                               (static_cast<double>(total - result.resumed_tokens) / static_cast<double>(total)) /
                               result.seconds;
    return result;
  }

 private:
  static size_t n_blocks_of(const Model& model) {
    int most = -1;
    for (const Op& op : model.graph().ops) most = std::max(most, op.layer);
    return static_cast<size_t>(most + 1);
  }

  // Tokens, times the blocks of the pass where there are several.
  uint64_t share_of(size_t pass, size_t n_chunks) const {
    const uint64_t tokens = uint64_t{n_chunks} * corpus_.context;
    return passes_.size() == 1 ? tokens : tokens * (passes_[pass].last_block - passes_[pass].first_block);
  }

  std::string key() const {
    Json json = {{"format", 2}, {"gram", options_.gram}, {"head", options_.process_output}, {"corpus", corpus_.hash}};
    json["model"] = model_hashes_;
    if (!options_.variant.empty()) json["variant"] = options_.variant;
    if (options_.fisher) json["fisher"] = {options_.fisher_tokens, options_.fisher_seed, fisher_rows()};
    for (const Pass& pass : passes_) json["passes"].push_back(pass.first_block);
    // Routing everything everywhere gives other sums.
    for (const Op& op : model_.graph().ops)
      if (op.kind == OpKind::kRoute && op.n_used != op.n_chosen) json["all_experts"] = true;
    const std::string text = json.dump();
    return hash_bytes(std::as_bytes(std::span(text)));
  }

  void save(const WorkState& state, WorkDirectory& work, RecordFile* written) const {
    work.create();
    if (written) written->sync();
    collector_.save(work.next_sums_path());
    work.save(state);
  }

  void run_pass(WorkState& state, WorkDirectory& work, Session& session, Progress& progress) {
    const Pass& pass = passes_[state.pass];
    const size_t width = engine_->stream_width(), n_chunks = corpus_.chunks.size();
    std::optional<RecordFile> in, out;
    std::vector<float> stream;
    if (passes_.size() > 1) {
      work.create();
      stream.resize(corpus_.context * width);
      if (state.pass > 0) in.emplace(work.stream_path(state.pass), stream.size());
      if (state.pass + 1 < passes_.size()) out.emplace(work.stream_path(state.pass + 1), stream.size());
    }
    auto last_save = std::chrono::steady_clock::now();
    for (; state.chunk < n_chunks; ++state.chunk) {
      const std::vector<TokenId>& tokens = corpus_.chunks[state.chunk];
      try {
        throw_if_interrupted();
        session.truncate(0);
        if (in) in->read(state.chunk, stream);
        if (by_blocks_)
          engine_->forward_blocks(session, tokens, pass.first_block, pass.last_block, stream);
        else
          engine_->forward(session, tokens, 0, {});
      } catch (const Error& e) {
        // Parts of the graph run whole or not at all, so the sums are those of whole chunks.
        if (e.code() == ExitCode::kInterrupted && by_blocks_) {
          save(state, work, out ? &*out : nullptr);
          note(fmt::format("{} of {} chunks of pass {} are kept in {}: the same command goes on from there",
                           state.chunk, n_chunks, state.pass + 1, work.path()));
        }
        throw;
      }
      collector_.check_finite(fmt::format("chunk {}", state.chunk));
      if (out) out->write(state.chunk, stream);
      progress.advance(share_of(state.pass, 1));
      const auto now = std::chrono::steady_clock::now();
      if (std::chrono::duration<double>(now - last_save).count() < options_.save_seconds) continue;
      save({state.pass, state.chunk + 1}, work, out ? &*out : nullptr);
      last_save = now;
    }
  }

  size_t fisher_rows() const { return fisher_block_rows(model_.graph(), kFisherRows, 1, options_.memory); }

  // Output gradients of chunks spread over the text; an interrupt keeps those that are done. The number of tokens.
  uint64_t collect_fisher(const WorkState& done, WorkDirectory& work) {
    fisher_.emplace(model_.graph(), fisher_rows(), pool_);
    const size_t n_chunks = corpus_.chunks.size(), wanted = std::clamp<size_t>(options_.fisher_tokens / corpus_.context, 1, n_chunks);
    const std::string path = work.path() + "/fisher";
    if (std::filesystem::exists(path)) fisher_->load(path);
    Backward backward(model_, pool_);
    Progress progress("gradients", wanted * corpus_.context - fisher_->n_tokens(), "tokens");
    auto last_save = std::chrono::steady_clock::now();
    for (size_t i = fisher_->n_tokens() / corpus_.context; i < wanted; ++i) {
      const uint64_t before = fisher_->n_additions();
      try {
        throw_if_interrupted();
        const size_t chunk = i * n_chunks / wanted;
        add_fisher_window(backward, corpus_.chunks[chunk], options_.fisher_seed, chunk, *fisher_, pool_);
      } catch (const Error& e) {
        if (e.code() == ExitCode::kInterrupted) {
          save(done, work, nullptr);
          if (fisher_->n_additions() == before) fisher_->save(path);  // else a part of the chunk is in: as saved last
          note(fmt::format("{} chunks of activations, and gradients, are kept in {}: the same command goes on from there", n_chunks, work.path()));
        }
        throw;
      }
      progress.advance(corpus_.context);
      const auto now = std::chrono::steady_clock::now();
      if (std::chrono::duration<double>(now - last_save).count() < options_.save_seconds) continue;
      save(done, work, nullptr);
      fisher_->save(path);
      last_save = now;
    }
    progress.finish();
    return fisher_->n_tokens();
  }

  // Writes the Gram matrices of a pass to their files and says so.
  void finish_pass(size_t pass, WorkDirectory& work) {
    for (size_t i = passes_[pass].first_input; i < passes_[pass].last_input; ++i) {
      if (!collector_.gram(i)) continue;  // of experts
      AtomicFile file(work.gram_path(i));
      write_gram(*collector_.gram(i), [&](std::span<const std::byte> bytes) { file.write(bytes); });
      file.commit();
    }
    // The next pass begins with sums of its own; the moments of all inputs go on.
    collector_.select(passes_[pass + 1].first_input, passes_[pass + 1].last_input, options_.gram);
    save({pass + 1, 0}, work, nullptr);
  }

  template <class Write>
  static void write_gram(const GramAccumulator& gram, Write write) {
    std::vector<float> row(gram.n());
    for (size_t i = 0; i < gram.n(); ++i) {
      const std::span<float> values(row.data(), gram.n() - i);
      gram.finish_row(i, values);
      write(std::as_bytes(values));
    }
  }

  Imatrix make_imatrix() const {
    Imatrix imatrix;
    imatrix.chunk_count = static_cast<uint32_t>(corpus_.chunks.size());
    imatrix.chunk_size = corpus_.context;
    for (const CorpusSource& s : corpus_.sources) imatrix.datasets.push_back(s.path);
    for (size_t i = 0; i < collector_.inputs().size(); ++i) {
      ImatrixEntry entry;
      for (size_t e = 0; e < collector_.inputs()[i].n_matrices(); ++e) {
        const ColumnMoments& m = collector_.moments(i, e);
        entry.sum_squares.insert(entry.sum_squares.end(), m.squares().begin(), m.squares().end());
        entry.counts.push_back(static_cast<float>(m.n_tokens()));
      }
      for (const std::string& name : collector_.inputs()[i].linears) imatrix.entries[name] = entry;
    }
    return imatrix;
  }

  uint64_t write_legacy() const {
    make_imatrix().save_legacy(options_.output);
    return std::filesystem::file_size(options_.output);
  }

  void set_metadata(GgufMetadata& metadata, const Imatrix& imatrix) const {
    // The keys of llama.cpp's tool first, in its order.
    metadata.set("general.type", GgufValue::string("imatrix"));
    metadata.set("imatrix.datasets", GgufValue::strings(imatrix.datasets));
    metadata.set("imatrix.chunk_count", GgufValue::u32(imatrix.chunk_count));
    metadata.set("imatrix.chunk_size", GgufValue::u32(imatrix.chunk_size));
    metadata.set("tsubu.version", GgufValue::string(TSUBU_VERSION));
    std::vector<std::string> files;
    for (const std::string& file : model_.files()) files.push_back(std::filesystem::path(file).filename().string());
    metadata.set("tsubu.calibrate.model_files", GgufValue::strings(files));
    metadata.set("tsubu.calibrate.model_hashes", GgufValue::strings(model_hashes_));
    std::vector<std::string> hashes;
    std::vector<float> weights;
    std::vector<int32_t> chunks;
    for (const CorpusSource& s : corpus_.sources) {
      hashes.push_back(s.hash);
      weights.push_back(static_cast<float>(s.weight));
      chunks.push_back(static_cast<int32_t>(s.n_chunks));
    }
    metadata.set("tsubu.calibrate.text_hashes", GgufValue::strings(hashes));
    metadata.set("tsubu.calibrate.text_weights", GgufValue::f32s(weights));
    metadata.set("tsubu.calibrate.text_chunks", GgufValue::i32s(chunks));
    if (fisher_) metadata.set(kFisherRowsKey, GgufValue::u32(static_cast<uint32_t>(fisher_->block_rows())));
    if (!options_.gram) return;
    std::vector<std::string> inputs;
    for (const StatisticsInput& input : collector_.inputs())
      if (input.n_experts == 0) inputs.push_back(fmt::format("{}", fmt::join(input.linears, ",")));
    metadata.set(kInputsKey, GgufValue::strings(inputs));
  }

  uint64_t write_gguf(const WorkDirectory& work) const {
    const Imatrix imatrix = make_imatrix();
    const TypeInfo& f32 = type_named("F32");
    GgufWriter writer(options_.output);
    set_metadata(writer.metadata(), imatrix);
    const auto declare = [&](const std::string& name, std::string_view suffix, uint64_t n, uint64_t n_matrices = 1) {
      const auto shape = n_matrices == 1 ? std::vector<uint64_t>{n} : std::vector<uint64_t>{n_matrices, n};
      writer.declare(name + std::string(suffix), shape, f32);
    };
    for (const auto& [name, entry] : imatrix.entries) {
      declare(name, kSquaresSuffix, entry.n_cols(), entry.counts.size());
      declare(name, kCountsSuffix, 1, entry.counts.size());
    }
    const std::vector<StatisticsInput>& inputs = collector_.inputs();
    const auto has_gram = [&](size_t i) { return options_.gram && inputs[i].n_experts == 0; };
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!has_gram(i)) continue;
      const uint64_t n = inputs[i].n_cols;
      declare(inputs[i].linears.front(), kSumSuffix, n);
      declare(inputs[i].linears.front(), kMaxSuffix, n);
      declare(inputs[i].linears.front(), kGramSuffix, n * (n + 1) / 2);
    }
    if (fisher_)
      for (const auto& [name, blocks] : fisher_->sums()) {
        uint64_t n = 0;
        for (const GramAccumulator& block : blocks) n += block.n() * (block.n() + 1) / 2;
        declare(name, kOutputCountsSuffix, 1);
        declare(name, kOutputGramSuffix, n);
      }
    writer.begin_data();
    for (const auto& [name, entry] : imatrix.entries) {
      writer.write(std::as_bytes(std::span(entry.sum_squares)));
      writer.write(std::as_bytes(std::span(entry.counts)));
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!has_gram(i)) continue;
      const ColumnMoments& m = collector_.moments(i);
      const std::vector<float> sums(m.sum().begin(), m.sum().end());
      writer.write(std::as_bytes(std::span(sums)));
      writer.write(std::as_bytes(m.max_abs()));
      if (const GramAccumulator* gram = collector_.gram(i)) {
        write_gram(*gram, [&](std::span<const std::byte> bytes) { writer.write(bytes); });
      } else {
        const MappedFile file(work.gram_path(i));
        writer.write(file.bytes());
      }
    }
    if (fisher_)
      for (const auto& [name, blocks] : fisher_->sums()) {
        const auto count = static_cast<float>(fisher_->n_tokens());
        writer.write(std::as_bytes(std::span(&count, 1)));
        for (const GramAccumulator& block : blocks)
          write_gram(block, [&](std::span<const std::byte> bytes) { writer.write(bytes); });
      }
    writer.commit();
    return std::filesystem::file_size(options_.output);
  }

  void fill(CalibrateResult& result) const {
    for (size_t i = 0; i < collector_.inputs().size(); ++i) {
      const StatisticsInput& input = collector_.inputs()[i];
      result.inputs.push_back({input.linears, input.n_cols, {}});
      for (size_t e = 0; e < input.n_matrices(); ++e)
        result.inputs.back().n_tokens.push_back(collector_.moments(i, e).n_tokens());
    }
    result.sources = corpus_.sources;
    result.context = corpus_.context;
    result.n_chunks = static_cast<uint32_t>(corpus_.chunks.size());
    result.n_passes = static_cast<uint32_t>(passes_.size());
    result.n_tokens = corpus_.n_tokens();
  }

  const Model& model_;
  const CalibrateOptions& options_;
  ThreadPool& pool_;
  Corpus corpus_;
  Collector collector_;
  std::unique_ptr<Engine> engine_;
  std::vector<Pass> passes_;
  std::vector<std::string> model_hashes_;
  std::optional<FisherSums> fisher_;
  bool by_blocks_ = false;
};

}  // namespace

std::string calibration_work_directory(const std::string& output) { return output + ".tsubu-work"; }

CalibrateResult calibrate(const Model& model, const CalibrateOptions& options, ThreadPool& pool) {
  if (options.output.empty()) fail(ExitCode::kUsage, "calibrate: no output: add -o STATS.gguf");
  if (options.legacy && options.fisher)
    fail(ExitCode::kUsage, "calibrate: the legacy form has no room for output gradients: leave out --legacy or --fisher");
  if (options.legacy && options.gram)
    fail(ExitCode::kUsage, "calibrate: the legacy form has no room for Gram matrices: leave out --legacy or --gram");
  return Run(model, options, pool).run();
}

ExpertCoverage expert_coverage(const CalibrateResult& r) {
  std::vector<uint64_t> tokens;
  for (const CalibratedInput& i : r.inputs) {
    // Gate and up read what the router gave an expert; down reads the same tokens. Heads read all of them.
    const bool is_gate = i.linears.front().find("ffn_gate_exps") != std::string::npos;
    if (i.n_tokens.size() > 1 && is_gate) tokens.insert(tokens.end(), i.n_tokens.begin(), i.n_tokens.end());
  }
  ExpertCoverage c;
  if (tokens.empty()) return c;
  std::sort(tokens.begin(), tokens.end());
  c.n_experts = tokens.size();
  c.n_unseen = static_cast<uint64_t>(std::count(tokens.begin(), tokens.end(), uint64_t{0}));
  c.n_few = static_cast<uint64_t>(std::count_if(tokens.begin(), tokens.end(), [](uint64_t n) { return n < kFewTokens; }));
  c.least = tokens.front();
  c.median = tokens[tokens.size() / 2];
  c.most = tokens.back();
  return c;
}

Json to_json(const CalibrateResult& r) {
  Json json;
  json["tokens"] = r.n_tokens;
  json["chunks"] = r.n_chunks;
  json["context"] = r.context;
  json["passes"] = r.n_passes;
  if (r.fisher_tokens > 0) json["fisher_tokens"] = r.fisher_tokens;
  json["resumed"] = r.resumed_tokens > 0;
  json["size_bytes"] = r.size_bytes;
  json["seconds"] = r.seconds;
  json["tokens_per_second"] = r.tokens_per_second;
  json["texts"] = Json::array();
  for (const CorpusSource& s : r.sources) json["texts"].push_back(to_json(s));
  json["inputs"] = Json::array();
  for (const CalibratedInput& i : r.inputs)
    json["inputs"].push_back(Json{{"linears", i.linears}, {"columns", i.n_cols}, {"tokens", i.n_tokens}});
  if (const ExpertCoverage c = expert_coverage(r); c.n_experts > 0)
    json["experts"] = {{"experts", c.n_experts}, {"unseen", c.n_unseen},   {"few", c.n_few}, {"few_below", kFewTokens},
                       {"least", c.least},       {"median", c.median},     {"most", c.most}};
  return json;
}

}  // namespace tsubu
