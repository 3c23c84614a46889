#include "pipeline/simulate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/progress.h"
#include "kernel/kernels.h"
#include "pipeline/finite_weights.h"

namespace tsubu {
namespace {

constexpr uint64_t kReadRows = 64;

class Simulation {
 public:
  Simulation(const Model& model, const SimulateOptions& options)
      : model_(model), o_(options), pool_(options.n_threads), out_type_(type_named(options.type)) {
    const std::string head = head_weight_name(model);
    for (const Op& op : model.graph().ops) {
      if (op.kind == OpKind::kEmbed && o_.all) rounded_.insert(op.weight);
      // Not the routers of mixtures.
      if (is_linear(op) && (o_.all || op.weight != head) && model.tensor(op.weight).spec().quantizable) rounded_.insert(op.weight);
    }
  }

  SimulateResult run() {
    const auto start = std::chrono::steady_clock::now();
    check();
    GgufWriter writer(o_.output);
    if (writer.found_leftover())
      result_.notes.push_back(fmt::format("{}: an earlier run was interrupted here; its part was replaced",
                                          AtomicFile::temporary_name(o_.output)));
    writer.metadata() = model_.gguf_metadata();
    writer.metadata().set("tsubu.version", GgufValue::string(TSUBU_VERSION));
    writer.metadata().set("tsubu.simulated", GgufValue::string(o_.format.name()));
    uint64_t total = 0;
    for (const ModelTensor& t : model_.tensors()) {
      writer.declare(t.name(), t.spec().shape, type_of(t));
      if (rounded_.contains(t.name())) total += t.n_elements();
    }
    writer.begin_data();
    Progress progress("simulate", total, "w");
    double error = 0, reference = 0, form = 0, reference_form = 0;
    for (const ModelTensor& t : model_.tensors()) {
      throw_if_interrupted();
      if (!rounded_.contains(t.name())) {
        copy(t, writer);
        continue;
      }
      const Sums sums = round(t, writer);
      error += sums.error;
      reference += sums.reference;
      form += sums.form;
      reference_form += sums.reference_form;
      progress.advance(t.n_elements(), t.name());
    }
    writer.commit();
    progress.finish();
    if (reference > 0) result_.rel_rmse = std::sqrt(error / reference);
    if (reference_form > 0) result_.rel_output = std::sqrt(std::max(0.0, form) / reference_form);
    if (result_.n_weights > 0)
      result_.bits_per_weight = static_cast<double>(result_.n_bits) / static_cast<double>(result_.n_weights);
    result_.size_bytes = writer.size_bytes();
    result_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(result_);
  }

 private:
  struct Sums {
    double error = 0, reference = 0, form = 0, reference_form = 0;
  };

  void check() {
    for (const std::string& file : model_.files())
      if (same_file(file, o_.output))
        fail(ExitCode::kUsage, "{}: output and input are the same file (choose another -o)", o_.output);
    if (const auto reason = refusal(o_.format, o_.method); !reason.empty())
      fail(ExitCode::kUnsupported, "format {}: {}", o_.format.name(), reason);
    for (const std::string& name : rounded_) {
      const std::string known = stats_name(name);
      if (o_.stats && o_.stats->has(known) && o_.stats->n_cols(known) != model_.tensor(name).n_cols())
        fail(ExitCode::kBadInput,
             "{}: {}: expected {} columns as in the model, found {} (were these statistics made with "
             "another model?)",
             o_.stats->path(), known, model_.tensor(name).n_cols(), o_.stats->n_cols(known));
      if (o_.method.needs_curvature() && !is_lookup(name) && !has_gram(name) && model_.tensor(name).n_matrices() == 1)
        fail(ExitCode::kUnsupported,
             "{}: this method needs its Gram matrix (make one: tsubu calibrate MODEL --gram --text F "
             "-o S.gguf, then --stats S.gguf)",
             name);
    }
  }

  // A token embedding that is no head has no input statistics: it is rounded without them.
  bool is_lookup(const std::string& name) const {
    for (const Op& op : model_.graph().ops)
      if (is_linear(op) && op.weight == name) return false;
    return true;
  }
  std::string stats_name(const std::string& name) const {
    return name == head_weight_name(model_) ? "output.weight" : name;
  }
  bool has_gram(const std::string& name) const { return o_.stats && o_.stats->has_gram(stats_name(name)); }

  const TypeInfo& type_of(const ModelTensor& t) const {
    if (rounded_.contains(t.name())) return out_type_;
    return t.spec().shape.size() > 1 && !t.raw().empty() ? t.type() : type_named("F32");
  }

  void copy(const ModelTensor& t, GgufWriter& writer) {
    if (&type_of(t) == &t.type() && !t.raw().empty()) return writer.write(t.raw());
    std::vector<float> x(std::min(kReadRows, t.n_rows()) * t.n_cols());
    for (uint64_t row = 0; row < t.n_rows(); row += kReadRows) {
      const uint64_t n = std::min(kReadRows, t.n_rows() - row);
      t.read_rows(row, n, x.data());
      writer.write(std::as_bytes(std::span(x.data(), n * t.n_cols())));
    }
  }

  Sums round(const ModelTensor& t, GgufWriter& writer) {
    const uint64_t rows = t.n_rows(), n = t.n_cols();
    std::vector<float> w(rows * n), values(rows * n);
    pool_.parallel_for((rows + kReadRows - 1) / kReadRows, [&](size_t item, int) {
      const uint64_t first = item * kReadRows;
      t.read_rows(first, std::min(kReadRows, rows - first), w.data() + first * n);
    });
    check_finite_weights(w.data(), rows, n, t.name());
    const std::string known = stats_name(t.name());
    std::vector<float> importance;
    if (o_.stats && o_.stats->has(known)) importance = o_.stats->mean_squares(known);
    const Curvature* curvature = has_gram(t.name()) ? &curvature_of(known, n) : nullptr;
    SimMethod method = o_.method;
    if (method.needs_curvature() && !curvature) {
      method = {SimStart::kSearch, 0};
      result_.notes.push_back(fmt::format("{}: {}: rounded by search", t.name(), t.n_matrices() > 1
                                              ? "experts and heads have no Gram matrices" : "looked up, not multiplied"));
    }
    // Each expert by itself, weighed by the inputs of its tokens.
    const uint64_t n_matrices = t.n_matrices(), own_rows = rows / n_matrices;
    if (importance.size() != n_matrices * n) importance.clear();
    for (uint64_t m = 0; m < n_matrices; ++m) {
      const auto first = importance.begin() + static_cast<std::ptrdiff_t>(importance.empty() ? 0 : m * n);
      const std::vector<float> own(first, importance.empty() ? first : first + static_cast<std::ptrdiff_t>(n));
      sim_round(w.data() + m * own_rows * n, own_rows, n, o_.format, method, own, curvature, values.data() + m * own_rows * n, pool_);
    }

    SimulatedTensor s{t.name(), t.spec().shape, n_matrices * o_.format.total_bits(own_rows, n),
                      o_.format.bits_per_weight(own_rows, n), 0, -1};
    Sums sums;
    for (uint64_t i = 0; i < rows * n; ++i) {
      const double v = static_cast<double>(w[i]), e = static_cast<double>(values[i]) - v;
      sums.error += e * e;
      sums.reference += v * v;
    }
    if (sums.reference > 0) s.rel_rmse = std::sqrt(sums.error / sums.reference);
    if (curvature) {
      sums.form = sim_form_error(w.data(), values.data(), rows, *curvature, pool_);
      const std::vector<float> none(rows * n);
      sums.reference_form = sim_form_error(w.data(), none.data(), rows, *curvature, pool_);
      if (sums.reference_form > 0) s.rel_output = std::sqrt(std::max(0.0, sums.form) / sums.reference_form);
    }
    result_.n_weights += rows * n;
    result_.n_bits += s.n_bits;
    result_.tensors.push_back(std::move(s));

    if (out_type_.name == "F32") {
      writer.write(std::as_bytes(std::span(values)));
      return sums;
    }
    std::vector<std::byte> row_bytes(n / out_type_.block_len * out_type_.block_bytes);
    for (uint64_t row = 0; row < rows; ++row) {
      kernels().encode[out_type_.index](values.data() + row * n, nullptr, row_bytes.data(), n);
      writer.write(row_bytes);
    }
    return sums;
  }

  // Linears of one input come one after another in most files: the last factor is kept.
  const Curvature& curvature_of(const std::string& name, size_t n) {
    const auto sharing = o_.stats->sharing(name);
    const std::string owner = sharing.empty() ? name : sharing.front();
    if (owner != curvature_owner_) {
      curvature_.emplace(o_.stats->gram(name), n, o_.stats->n_tokens(name), o_.damping, pool_);
      curvature_owner_ = owner;
    }
    return *curvature_;
  }

  const Model& model_;
  const SimulateOptions& o_;
  ThreadPool pool_;
  const TypeInfo& out_type_;
  std::set<std::string> rounded_;
  std::optional<Curvature> curvature_;
  std::string curvature_owner_;
  SimulateResult result_;
};

}  // namespace

SimulateResult simulate(const Model& model, const SimulateOptions& options) {
  if (options.type != "F32" && options.type != "F16")
    fail(ExitCode::kUsage, "--dtype {}: expected F32 or F16", options.type);
  return Simulation(model, options).run();
}

Json to_json(const SimulateResult& result) {
  Json json;
  json["n_weights"] = result.n_weights;
  json["n_bits"] = result.n_bits;
  json["bits_per_weight"] = result.bits_per_weight;
  json["rel_rmse"] = result.rel_rmse;
  if (result.rel_output >= 0) json["rel_output"] = result.rel_output;
  json["size_bytes"] = result.size_bytes;
  json["seconds"] = result.seconds;
  json["notes"] = result.notes;
  json["tensors"] = Json::array();
  for (const SimulatedTensor& t : result.tensors) {
    Json item{{"name", t.name},
              {"shape", t.shape},
              {"n_bits", t.n_bits},
              {"bits_per_weight", t.bits_per_weight},
              {"rel_rmse", t.rel_rmse}};
    if (t.rel_output >= 0) item["rel_output"] = t.rel_output;
    json["tensors"].push_back(std::move(item));
  }
  return json;
}

}  // namespace tsubu
