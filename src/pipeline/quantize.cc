#include "pipeline/quantize.h"

#include <sys/resource.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <filesystem>
#include <map>
#include <mutex>

#include "base/error.h"
#include "base/hash.h"
#include "base/progress.h"
#include "base/size.h"
#include "kernel/kernels.h"
#include "pipeline/carry_codes.h"
#include "pipeline/finite_weights.h"
#include "pipeline/output_digest.h"
#include "pipeline/pieces.h"

namespace tsubu {
namespace {

constexpr uint64_t kPieceWeights = uint64_t{1} << 18;  // what one thread works on between hand-overs
constexpr uint64_t kBatchWeights = uint64_t{1} << 14;  // rows decoded, encoded and compared while they are in cache

constexpr const char* kSourceDigestKey = "tsubu.source.sha256";
constexpr const char* kTreatmentDigestKey = "tsubu.treatment.sha256";

struct Piece {
  size_t tensor;
  uint64_t first_row, n_rows;
};

struct ErrorSum {
  double error = 0, reference = 0;  // Σ(x̂ − x)², Σx²
};

struct Scratch {
  std::vector<float> x, decoded;
};

struct Job {
  const PlannedTensor* plan;
  const std::vector<float>* importance = nullptr;  // n_matrices × n_cols
  uint64_t rows_per_matrix = 1;
  bool copies = false;
  bool carries = false;  // codes of a quantized source, as they are
  std::span<const std::byte> encoded = {};  // all rows, when they were rounded before
};

// Encodes one piece into out; returns its error sums (zeros when nothing was rounded or asked).
ErrorSum encode_piece(const Job& job, const Piece& piece, bool measure, Scratch& scratch, std::vector<std::byte>& out) {
  const ModelTensor& tensor = *job.plan->tensor;
  const TypeInfo& type = *job.plan->type;
  const uint64_t n_cols = tensor.n_cols();
  const uint64_t row_bytes = n_cols / type.block_len * type.block_bytes;
  out.resize(piece.n_rows * row_bytes);
  if (job.copies) {
    const auto source = tensor.raw().subspan(piece.first_row * row_bytes, out.size());
    std::copy(source.begin(), source.end(), out.begin());
    return {};
  }
  if (!job.encoded.empty()) {
    const auto done = job.encoded.subspan(piece.first_row * row_bytes, out.size());
    std::copy(done.begin(), done.end(), out.begin());
    if (!measure) return {};
  }
  const auto encode = kernels().encode[type.index];
  const auto decode = kernels().decode[type.index];
  const uint64_t batch_rows = std::max<uint64_t>(1, kBatchWeights / n_cols);
  scratch.x.resize(batch_rows * n_cols);
  scratch.decoded.resize(batch_rows * n_cols);
  ErrorSum sum;
  for (uint64_t row = 0; row < piece.n_rows; row += batch_rows) {
    const uint64_t n = std::min(batch_rows, piece.n_rows - row);
    const uint64_t first = piece.first_row + row;
    std::byte* blocks = out.data() + row * row_bytes;
    tensor.read_rows(first, n, scratch.x.data());
    check_finite_weights(scratch.x.data(), n, n_cols, tensor.name(), first);
    if (job.carries) carry_codes(tensor, type, first, n, blocks);
    for (uint64_t i = 0; i < n && job.encoded.empty() && !job.carries; ++i) {
      const float* importance =
          job.importance ? job.importance->data() + (first + i) / job.rows_per_matrix * n_cols : nullptr;
      encode(scratch.x.data() + i * n_cols, importance, blocks + i * row_bytes, n_cols);
    }
    if (!measure) continue;
    decode(blocks, scratch.decoded.data(), n * n_cols);
    for (uint64_t i = 0; i < n; ++i) {
      float* y = scratch.decoded.data() + i * n_cols;
      const float* x = scratch.x.data() + i * n_cols;
      for (uint64_t c = 0; c < n_cols; ++c) y[c] -= x[c];
      sum.error += static_cast<double>(kernels().dot(y, y, n_cols));
      sum.reference += static_cast<double>(kernels().dot(x, x, n_cols));
    }
  }
  return sum;
}

std::vector<Piece> cut(const std::vector<PlannedTensor>& plan) {
  std::vector<Piece> pieces;
  for (size_t t = 0; t < plan.size(); ++t) {
    const ModelTensor& tensor = *plan[t].tensor;
    const uint64_t rows = std::max<uint64_t>(1, kPieceWeights / tensor.n_cols());
    for (uint64_t row = 0; row < tensor.n_rows(); row += rows)
      pieces.push_back({t, row, std::min(rows, tensor.n_rows() - row)});
  }
  return pieces;
}

// Mean squares for every tensor the statistics know; throws when a size does not fit.
std::map<std::string, std::vector<float>> importance_of(const std::vector<PlannedTensor>& plan, const Imatrix& stats,
                                                        const std::string& where) {
  std::map<std::string, std::vector<float>> r;
  for (const PlannedTensor& p : plan) {
    const auto entry = stats.entries.find(p.tensor->name());
    if (entry == stats.entries.end()) continue;
    const std::vector<uint64_t>& shape = p.tensor->spec().shape;
    const uint64_t n_matrices = shape.size() > 2 ? p.tensor->n_rows() / shape[shape.size() - 2] : 1;
    if (entry->second.counts.size() != n_matrices)
      fail(ExitCode::kBadInput,
           "{}: {}: expected {} counts, one for each matrix of the model's, found {} (were these statistics made with "
           "another model?)",
           where, p.tensor->name(), n_matrices, entry->second.counts.size());
    if (entry->second.n_cols() != p.tensor->n_cols())
      fail(ExitCode::kBadInput,
           "{}: {}: expected {} columns as in the model, found {} (were these statistics made with another model?)",
           where, p.tensor->name(), p.tensor->n_cols(), entry->second.n_cols());
    std::vector<float>& all = r[p.tensor->name()];
    for (size_t m = 0; m < entry->second.counts.size(); ++m) {
      const auto matrix = entry->second.mean_squares(m);
      all.insert(all.end(), matrix.begin(), matrix.end());
    }
  }
  return r;
}

void check_space(const std::string& output, uint64_t needed) {
  auto directory = std::filesystem::path(output).parent_path();
  if (directory.empty()) directory = ".";
  struct statvfs fs {};
  if (statvfs(directory.c_str(), &fs) != 0) return;  // AtomicFile will say what is wrong
  const uint64_t available = uint64_t{fs.f_bavail} * fs.f_frsize;
  if (available < needed)
    fail(ExitCode::kIo, "{}: needs {}, the file system has {} left (free some space or write elsewhere)", output,
         format_size(needed), format_size(available));
}

// Says what a run that stopped has left for the next one.
struct WorkNote {
  const std::string& output;
  const std::optional<RoundedStore>& store;
  ~WorkNote() {
    if (std::uncaught_exceptions() == 0 || !store || store->all().empty()) return;
    note(fmt::format("{}: {} finished tensors stay here; the same command goes on from them", RoundedStore::folder(output),
                     store->all().size()));
  }
};

// Seconds one thread takes for the plan, from a short measurement of every (type, with or without statistics) in it.
double estimate_seconds(const std::vector<Job>& jobs, bool measure) {
  std::map<std::pair<uint32_t, bool>, double> per_weight;
  double total = 0;
  Scratch scratch;
  std::vector<std::byte> out;
  for (size_t t = 0; t < jobs.size(); ++t) {
    const ModelTensor& tensor = *jobs[t].plan->tensor;
    if (jobs[t].copies) {
      total += static_cast<double>(tensor.size_bytes()) * 1e-9;
      continue;
    }
    const auto key = std::pair(jobs[t].plan->type->index, jobs[t].importance != nullptr);
    if (!per_weight.contains(key) && tensor.n_rows() > 1) {
      const uint64_t rows = std::min(tensor.n_rows(), std::max<uint64_t>(1, (uint64_t{1} << 15) / tensor.n_cols()));
      encode_piece(jobs[t], {t, 0, rows}, measure, scratch, out);  // touches the pages and warms the code
      const auto start = std::chrono::steady_clock::now();
      encode_piece(jobs[t], {t, 0, rows}, measure, scratch, out);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      per_weight[key] = took.count() / static_cast<double>(rows * tensor.n_cols());
    }
    total += per_weight[key] * static_cast<double>(tensor.n_elements());
  }
  return total;
}

GgufMetadata output_metadata(const Model& model, const Recipe& recipe, const QuantizeOptions& options) {
  GgufMetadata metadata = model.gguf_metadata();
  metadata.set("general.file_type", GgufValue::u32(recipe.file_type));
  metadata.set("general.quantization_version", GgufValue::u32(2));
  metadata.set("tsubu.version", GgufValue::string(TSUBU_VERSION));
  metadata.set("tsubu.recipe", GgufValue::string(recipe.name));
  if (!options.model_name.empty()) metadata.set("general.name", GgufValue::string(options.model_name));
  // Known when the work is done; their length is.
  metadata.set(kSourceDigestKey, GgufValue::string(std::string(64, '0')));
  metadata.set(kTreatmentDigestKey, GgufValue::string(std::string(64, '0')));
  if (options.stats) {
    metadata.set("quantize.imatrix.file",
                 GgufValue::string(std::filesystem::path(options.stats_path).filename().string()));
    if (!options.stats->datasets.empty())
      metadata.set("quantize.imatrix.dataset", GgufValue::string(options.stats->datasets.front()));
    metadata.set("quantize.imatrix.entries_count", GgufValue::u32(static_cast<uint32_t>(options.stats->entries.size())));
    metadata.set("quantize.imatrix.chunks_count", GgufValue::u32(options.stats->chunk_count));
  }
  if (options.trained) metadata.set("tsubu.training", GgufValue::string(options.trained->method));
  if (options.corpus) {
    std::vector<std::string> texts;
    for (const CorpusSource& s : options.corpus->sources)
      texts.push_back(fmt::format("{} {}", std::filesystem::path(s.path).filename().string(), s.hash));
    metadata.set("tsubu.calibration.texts", GgufValue::strings(texts));
    metadata.set("tsubu.calibration.tokens", GgufValue::u64(options.corpus->n_tokens()));
    const bool bf16 = options.calibrated.products == Products::kBf16;
    metadata.set("tsubu.calibration.products", GgufValue::string(bf16 ? fmt::format("bf16 {}", kernels().isa) : "f32"));
  }
  return metadata;
}

// What the bytes of calibrated rounding depend on.
std::string run_key(const Model& model, const std::vector<PlannedTensor>& plan, const QuantizeOptions& options) {
  const CalibratedOptions& c = options.calibrated;
  std::string key = fmt::format("{} {}", TSUBU_VERSION, std::filesystem::absolute(model.path()).string());
  for (const std::string& file : model.files()) {
    const auto written = std::filesystem::last_write_time(file).time_since_epoch().count();
    key += fmt::format(" {}:{}:{}", file, std::filesystem::file_size(file), written);
  }
  for (const PlannedTensor& p : plan) key += fmt::format(" {}", p.type->name);
  if (options.corpus) key += fmt::format(" text {}", options.corpus->hash);
  if (options.statistics) key += fmt::format(" statistics {}", hash_file(options.statistics->path()));
  key += fmt::format(" {} {} {} {} {} {} {} {} {} {} {}", c.damping, c.asymmetric, c.residual, c.residual_share,
                     c.embeddings, c.embedding_damping, c.held_out, c.round.feedback, c.round.choose_scales,
                     c.round.descent_passes, c.round.codes_only);
  key += fmt::format(" experts {} {} {}", c.expert_feedback, c.expert_weights, c.expert_memory);
  if (c.fisher_tokens > 0)
    key += fmt::format(" fisher {} {} {} {} {} {} {}", c.fisher_tokens, c.fisher_seed, c.fisher_memory, c.fisher_rows,
                       c.fisher_damping, c.coupled.sweeps, c.coupled.group_rows);
  if (!options.transform.is_null()) key += " transform " + options.transform.dump();
  if (c.start) key += fmt::format(" start {}", hash_file(c.start->files().front()));
  if (c.products == Products::kBf16) key += fmt::format(" bf16 {}", kernels().isa);
  return key;
}

// Tunes what is left free when everything is rounded; the jobs and the result get what is kept.
ScaleDescentResult tune(const Model& model, const std::vector<PlannedTensor>& plan, const QuantizeOptions& options,
                        ThreadPool& pool, std::vector<Job>& jobs, QuantizeResult& result) {
  if (!options.corpus || !options.calibrated.scales) return {};
  std::map<std::string, EncodedTensor> encoded;
  ScaleDescentOptions scales = *options.calibrated.scales;
  scales.held_out = options.calibrated.held_out;
  scales.teacher = options.calibrated.reference;
  scales.checkpoint = RoundedStore::folder(options.output) + "/tuning.safetensors";
  scales.checkpoint_key = run_key(model, plan, options);
  for (size_t t = 0; t < plan.size(); ++t) {
    if (plan[t].tensor->spec().shape.size() < 2 && plan[t].type->name != "F32") scales.gains = false;
    if (!plan[t].type->is_quantized || jobs[t].copies) continue;
    if (jobs[t].encoded.empty()) {
      result.notes.push_back(fmt::format("scales are left as they are: {} is not among what was calibrated",
                                         plan[t].tensor->name()));
      return {};
    }
    encoded[plan[t].tensor->name()] = {plan[t].type, jobs[t].encoded};
  }
  ScaleDescentResult tuned = tune_scales(model, encoded, *options.corpus, scales, pool);
  for (size_t t = 0; t < plan.size(); ++t) {
    const auto found = tuned.tensors.find(plan[t].tensor->name());
    if (found == tuned.tensors.end()) continue;
    jobs[t].encoded = found->second;
    jobs[t].copies = false;
    result.tensors[t].method = result.tensors[t].method == "copy" || result.tensors[t].method == "convert"
                                   ? "tuned"
                                   : result.tensors[t].method + "+scales";
  }
  if (tuned.n_steps > 0)
    result.notes.push_back(fmt::format(
        "{} scales and gains{} {}: mean KL divergence on {} held-out tokens {:.3g}, before {:.3g}", tuned.n_parameters,
        tuned.n_codes > 0 ? ", and codes," : "", tuned.tensors.empty() ? "were tuned and not kept" : "tuned", tuned.n_judged,
        tuned.after, tuned.before));
  if (!tuned.tensors.empty()) result.divergence = {tuned.seen, tuned.after, tuned.n_judged};
  return tuned;
}

std::vector<PlannedTensor> planned_tensors(const Model& model, const Recipe& recipe, QuantizeOptions& options) {
  PlanOptions plan_options = options.plan;
  plan_options.has_stats = options.stats || options.corpus || options.statistics || options.trained;
  std::vector<PlannedTensor> plan = assign_types(model, recipe, plan_options);
  if (options.corpus) options.calibrated.products = choose_products(model, plan, *options.corpus, options.calibrated);
  return plan;
}

// Digests are chains that a run cannot end before: while they are behind, one thread fewer encodes.
class Gate {
 public:
  Gate(int n_threads, std::function<bool()> is_behind) : n_threads_(n_threads), is_behind_(std::move(is_behind)) {}
  void enter() {
    std::unique_lock lock(mutex_);
    left_.wait(lock, [&] { return n_inside_ < std::max(1, n_threads_ - (is_behind_() ? 1 : 0)); });
    ++n_inside_;
  }
  void leave() {
    std::lock_guard lock(mutex_);
    --n_inside_;
    left_.notify_all();
  }

 private:
  const int n_threads_;
  const std::function<bool()> is_behind_;
  std::mutex mutex_;
  std::condition_variable left_;
  int n_inside_ = 0;
};

GgufLayout output_layout(const Model& model, const std::vector<PlannedTensor>& plan, const Recipe& recipe,
                         const QuantizeOptions& options) {
  GgufLayout layout;
  layout.metadata() = output_metadata(model, recipe, options);
  for (const PlannedTensor& p : plan) layout.declare(p.tensor->name(), p.tensor->spec().shape, *p.type);
  return layout;
}

}  // namespace

void check_output(const Model& model, const std::string& output) {
  for (const std::string& file : model.files())
    if (same_file(file, output))
      fail(ExitCode::kUsage, "{}: output and input are the same file (choose another -o)", output);
  const auto folder = std::filesystem::path(output).parent_path();
  if (std::error_code error; !folder.empty() && !std::filesystem::is_directory(folder, error))
    fail(ExitCode::kIo, "{}: the folder {} is not there", output, folder.string());
}

std::shared_ptr<InputDigests> input_digests(const Model& model, const QuantizeOptions& options) {
  std::vector<InputFile> files = model_inputs(model);
  if (options.corpus)
    for (const CorpusSource& source : options.corpus->sources) files.push_back({"text", source.path, 0, ""});
  if (options.stats || options.statistics)
    files.push_back({"statistics", options.stats ? options.stats_path : options.statistics->path(), 0, ""});
  if (options.corpus && options.calibrated.start)
    for (InputFile& file : model_inputs(*options.calibrated.start, "start")) files.push_back(std::move(file));
  return std::make_shared<InputDigests>(std::move(files));
}

uint64_t quantized_bytes(const Model& model, const Recipe& recipe, const QuantizeOptions& given) {
  QuantizeOptions options = given;
  const std::vector<PlannedTensor> plan = planned_tensors(model, recipe, options);
  return output_layout(model, plan, recipe, options).file_bytes();
}

QuantizeResult quantize(const Model& model, const Recipe& recipe, const QuantizeOptions& given) {
  const auto start = std::chrono::steady_clock::now();
  QuantizeOptions options = given;
  const std::vector<PlannedTensor> plan = planned_tensors(model, recipe, options);

  std::map<std::string, std::vector<float>> importance;
  if (options.stats) importance = importance_of(plan, *options.stats, options.stats_path);

  QuantizeResult result;
  result.source_bytes = model.weight_bytes();
  std::vector<Job> jobs;
  uint64_t weight_bytes = 0, without_stats = 0;
  for (const PlannedTensor& p : plan) {
    Job job{&p};
    job.copies = p.type == &p.tensor->type() && !p.tensor->raw().empty();
    job.carries = !options.corpus && !options.statistics && can_carry_codes(*p.tensor, *p.type);
    if (const auto it = importance.find(p.tensor->name()); it != importance.end() && p.type->is_quantized && !job.carries) {
      job.importance = &it->second;
      job.rows_per_matrix = p.tensor->n_rows() / (it->second.size() / p.tensor->n_cols());
    } else if (options.stats && p.type->is_quantized && !job.copies) {
      ++without_stats;
    }
    QuantizedTensor t;
    t.name = p.tensor->name();
    t.role = role_name(p.tensor->spec().role);
    t.type = p.type->name;
    const QuantMatrix* packed = quantized_source(*p.tensor);
    t.source_type = packed ? packed->kind() : std::string(p.tensor->type().name);
    t.reason = p.reason;
    t.shape = p.tensor->spec().shape;
    t.size_bytes = p.size_bytes;
    t.used_stats = job.importance != nullptr;
    t.method = job.copies ? "copy" : job.carries ? "codes" : p.type->is_quantized ? "search" : "convert";
    if (p.type != p.wanted) result.notes.push_back(fmt::format("{}: {}, now {}", t.name, t.reason, t.type));
    const bool again = p.tensor->type().is_quantized || packed;
    if (again && !job.copies && !job.carries && p.type->is_quantized)
      result.notes.push_back(fmt::format("{}: quantized again from {}: its loss adds up", t.name, t.source_type));
    result.n_weights += p.tensor->n_elements();
    weight_bytes += p.size_bytes;
    result.tensors.push_back(std::move(t));
    jobs.push_back(job);
  }
  if (without_stats > 0)
    result.notes.push_back(fmt::format("{} of the quantized tensors have no entry in {} and were rounded without it",
                                       without_stats, options.stats_path));
  if (options.corpus && options.calibrated.products == Products::kBf16)
    result.notes.push_back(fmt::format(
        "calibration multiplies bf16 ({}): --products f32 takes longer and gives the same bytes on every machine",
        kernels().isa));
  result.bits_per_weight = 8.0 * static_cast<double>(weight_bytes) / static_cast<double>(result.n_weights);

  ThreadPool pool(options.n_threads);
  GgufLayout layout = output_layout(model, plan, recipe, options);
  result.size_bytes = layout.file_bytes();
  if (options.dry_run) {
    result.estimated_seconds = estimate_seconds(jobs, options.measure_error) / pool.size();
    if (options.corpus)
      result.estimated_seconds +=
          estimate_calibrated_seconds(model, plan, *options.corpus, options.calibrated, pool);
    return result;
  }

  check_output(model, options.output);
  check_space(options.output, result.size_bytes);
  const std::shared_ptr<InputDigests> inputs = options.inputs ? options.inputs : input_digests(model, options);
  std::optional<RoundedStore> store;
  const WorkNote work_note{options.output, store};
  if (options.corpus || options.statistics) {
    store.emplace(options.output, run_key(model, plan, options));
    uint64_t needed = result.size_bytes;  // rounded rows wait in the store until the output is whole
    for (const PlannedTensor& p : plan)
      if (p.type->is_quantized && p.type != &p.tensor->type() && !store->find(p.tensor->name())) needed += p.size_bytes;
    check_space(options.output, needed);
    if (store->n_resumed() > 0)
      result.notes.push_back(fmt::format("{}: {} tensors of an interrupted run were taken from here",
                                         RoundedStore::folder(options.output), store->n_resumed()));
    if (options.corpus)
      result.divergence =
          round_calibrated(model, plan, *options.corpus, options.calibrated, pool, *store, result.notes);
    else
      round_with_statistics(model, plan, *options.statistics, options.calibrated, pool, *store);
    for (size_t t = 0; t < jobs.size(); ++t)
      if (const RoundedTensor* rounded = store->find(plan[t].tensor->name())) {
        jobs[t].encoded = rounded->bytes;
        result.tensors[t].method = rounded->method;
        result.tensors[t].output_error = rounded->error;
        result.tensors[t].search_output_error = rounded->search_error;
      }
  }
  for (size_t t = 0; options.trained && t < jobs.size(); ++t) {
    const auto found = options.trained->tensors.find(plan[t].tensor->name());
    if (found == options.trained->tensors.end()) continue;
    jobs[t].encoded = found->second;
    jobs[t].copies = jobs[t].carries = false;
    result.tensors[t].method = options.trained->method;
  }
  const ScaleDescentResult tuned = tune(model, plan, options, pool, jobs, result);
  AtomicFile file(options.output);
  if (file.found_leftover())
    result.notes.push_back(fmt::format("{}: an earlier run was interrupted here; its part was replaced",
                                       AtomicFile::temporary_name(options.output)));
  const std::string header = layout.header();
  file.write(header);

  const auto finished_header = [&]() -> std::string {
    result.inputs = inputs->wait();
    result.treatment = treatment_json(recipe, options, result.inputs);
    layout.metadata().set(kSourceDigestKey, GgufValue::string(combined_digest(result.inputs, "model")));
    layout.metadata().set(kTreatmentDigestKey, GgufValue::string(treatment_digest(result.treatment)));
    return layout.header();
  };
  std::optional<OutputDigest> digest;
  const uint64_t alignment = layout.alignment();
  if (options.digest_output)
    digest.emplace(AtomicFile::temporary_name(options.output), finished_header, [&] { inputs->give_up(); });
  Gate gate(pool.size(), [&] { return digest && digest->is_behind(); });

  const std::vector<Piece> pieces = cut(plan);
  std::vector<ErrorSum> sums(pieces.size());
  std::vector<Scratch> scratch(static_cast<size_t>(pool.size()));
  Progress progress("quantize", result.source_bytes, "B");
  run_in_order(
      pool, pieces.size(), static_cast<size_t>(4 * pool.size() + 4),
      [&](size_t i, int worker, std::vector<std::byte>& out) {
        const Piece& piece = pieces[i];
        gate.enter();
        struct Leave {
          Gate& gate;
          ~Leave() { gate.leave(); }
        } leave{gate};
        sums[i] = encode_piece(jobs[piece.tensor], piece, options.measure_error, scratch[static_cast<size_t>(worker)], out);
        plan[piece.tensor].tensor->release_rows(piece.first_row, piece.n_rows);
      },
      [&](size_t i, const std::vector<std::byte>& bytes) {
        file.write(bytes);
        const Piece& piece = pieces[i];
        if (i + 1 == pieces.size() || pieces[i + 1].tensor != piece.tensor) file.pad_to(alignment);
        if (digest) digest->advance(file.size());
        const ModelTensor& tensor = *plan[piece.tensor].tensor;
        progress.advance(tensor.size_bytes() / tensor.n_rows() * piece.n_rows, tensor.name());
      });
  const std::string finished = digest ? digest->header() : finished_header();
  if (const GgufValue* name = layout.metadata().find("general.name"))
    if (const auto* text = std::get_if<std::string>(&name->value)) result.model_name = *text;
  if (finished.size() != header.size() || file.size() != result.size_bytes)
    fail(ExitCode::kIo, "{}: expected {} bytes to be written, found {}: this is a bug of tsubu", options.output, result.size_bytes,
         file.size());
  file.write_at(0, std::as_bytes(std::span(finished)));
  if (digest) {
    digest->advance(file.size());
    result.output_sha256 = digest->finish().sha256;
  }
  throw_if_interrupted(kNothingLeft);
  file.commit();
  progress.finish();
  if (store) store->remove();

  std::vector<ErrorSum> by_tensor(plan.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    by_tensor[pieces[i].tensor].error += sums[i].error;
    by_tensor[pieces[i].tensor].reference += sums[i].reference;
  }
  for (size_t t = 0; t < plan.size(); ++t)
    if (by_tensor[t].reference > 0) result.tensors[t].rel_rmse = std::sqrt(by_tensor[t].error / by_tensor[t].reference);
  if (options.calibrated.reference) result.source_bytes = options.calibrated.reference->weight_bytes();
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  result.peak_rss_bytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

QuantizeResult convert(const Model& model, const std::string& output, const std::string& dtype, int n_threads, bool digest_output) {
  static constexpr std::string_view kDtypes[] = {"F32", "F16", "BF16"};
  QuantizeOptions options;
  options.output = output;
  options.n_threads = n_threads;
  options.digest_output = digest_output;
  options.plan.pure = true;
  std::string type = dtype;
  if (type.empty()) {
    // As it is: the type that most of the matrices have, when it is a float one.
    std::map<std::string, uint64_t> weights;
    for (const ModelTensor& t : model.tensors())
      if (t.spec().quantizable) weights[std::string(t.type().name)] += t.n_elements();
    uint64_t most = 0;
    for (const auto& [name, n] : weights)
      if (n > most) {
        most = n;
        type = name;
      }
    if (std::find(std::begin(kDtypes), std::end(kDtypes), type) == std::end(kDtypes)) type = "F16";
  }
  const TypeInfo& wanted = type_named(type);
  if (std::find(std::begin(kDtypes), std::end(kDtypes), wanted.name) == std::end(kDtypes))
    fail(ExitCode::kUsage, "--dtype {}: expected F32, F16 or BF16 (`tsubu quantize` makes the other types)", dtype);
  // Matrices that lie in a layout whose blocks GGUF has as they are stay so: the values are the same, in a fourth of the bytes.
  if (dtype.empty())
    for (const ModelTensor& t : model.tensors())
      if (const TypeInfo* kept = kept_type(t)) options.plan.overrides.push_back({exact_pattern(t.name()), std::string(kept->name)});
  return quantize(model, recipe_named(wanted.name), options);
}

Json to_json(const QuantizeResult& result) {
  Json json;
  json["source_bytes"] = result.source_bytes;
  json["size_bytes"] = result.size_bytes;
  json["bits_per_weight"] = result.bits_per_weight;
  json["n_weights"] = result.n_weights;
  json["seconds"] = result.seconds;
  if (result.estimated_seconds > 0) json["estimated_seconds"] = result.estimated_seconds;
  json["peak_rss_bytes"] = result.peak_rss_bytes;
  if (result.divergence.n_tokens > 0)
    json["divergence"] = {{"calibration", result.divergence.seen},
                          {"held_out", result.divergence.held_out},
                          {"tokens", result.divergence.n_tokens}};
  json["notes"] = result.notes;
  json["tensors"] = Json::array();
  for (const QuantizedTensor& t : result.tensors) {
    Json item;
    item["name"] = t.name;
    item["role"] = t.role;
    item["shape"] = t.shape;
    item["type"] = t.type;
    item["source_type"] = t.source_type;
    item["size_bytes"] = t.size_bytes;
    item["rel_rmse"] = t.rel_rmse;
    item["reason"] = t.reason;
    item["method"] = t.method;
    if (t.search_output_error != 0)
      item["held_out_error"] = {{"method", t.output_error}, {"search", t.search_output_error}};
    item["used_stats"] = t.used_stats;
    json["tensors"].push_back(std::move(item));
  }
  return json;
}

}  // namespace tsubu
