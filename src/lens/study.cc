#include "lens/study.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <regex>
#include <set>

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/progress.h"
#include "kernel/kernels.h"
#include "base/draws.h"

namespace tsubu {
namespace {

// A part's name as an identifier: sentences in every language carry it.
std::string one_word(std::string part) {
  std::replace(part.begin(), part.end(), ' ', '-');
  return part;
}

constexpr double kGrid[] = {1.0 / 16, 1.0 / 64, 1.0 / 8, 1.0 / 32, 1.0 / 4, 1.0 / 128};  // r, the most telling first
constexpr double kMiddle = 1.0 / 16;                                                     // r of figures at one r
constexpr double kGammas[] = {0, 1, -1, 0.5, -0.5, 0.25, 0.75, -0.25, -0.75};
constexpr double kShares[] = {0.001, 0.01, 0.0001};
constexpr std::string_view kCodecs[] = {"Q4_K", "Q3_K", "Q2_K", "Q6_K", "IQ4_XS", "Q5_K", "Q4_0", "Q8_0", "IQ3_S", "IQ2_S",
                                        "IQ3_XXS", "MXFP4", "NVFP4", "IQ4_NL", "Q4_1", "Q5_0", "Q5_1", "IQ2_XS", "IQ2_XXS",
                                        "TQ2_0", "Q2_0", "IQ1_M", "IQ1_S", "TQ1_0", "Q1_0"};
struct SchemePair {
  std::string_view weights, activations;
};
constexpr SchemePair kSchemes[] = {{"int4:channel", ""}, {"int8:channel", "int8:token"}, {"int4:channel", "int4:token"},
                                   {"", "int8:token"}, {"", "int4:token"}, {"int4:group=128", ""}, {"int8:channel", ""},
                                   {"int4:group=128", "int8:token"}};
constexpr uint64_t kSlopeRows = 24;       // of each tensor
constexpr int kBinsAnOctave = 2, kLowestOctave = -5, kOctaves = 8;
constexpr size_t kOutliers = 12;

// Edits the inputs of the chosen linears.
class InputPerturber : public LinearInputEditor {
 public:
  InputPerturber(const Perturbation& p, std::set<std::string> weights, bool each_token, ThreadPool& pool)
      : p_(p), weights_(std::move(weights)), each_token_(each_token), pool_(pool) {}
  void next_window(size_t window) { window_ = window; }
  bool edits(const Op& op) const override { return weights_.contains(op.weight); }
  void edit(const Op& op, float* x, size_t n_tokens, size_t n_cols, size_t position) override {
    const uint64_t key = mix_bits(draw_key(op.weight) + window_);
    perturb_rows(x, n_tokens, n_cols, p_, each_token_, key, position, pool_);
  }

 private:
  Perturbation p_;
  std::set<std::string> weights_;
  bool each_token_;
  ThreadPool& pool_;
  size_t window_ = 0;
};

// Largest magnitude and energy of every input channel.
class ChannelWatch : public LinearObserver {
 public:
  void on_linear_input(const Op& op, const float* x, size_t n_tokens, size_t n_cols) override {
    const auto [it, is_new] = reader_.emplace(op.inputs[0], op.weight);
    if (it->second != op.weight) return;
    Input& input = inputs_[op.weight];
    input.largest.resize(n_cols);
    input.squares.resize(n_cols);
    for (size_t t = 0; t < n_tokens; ++t)
      for (size_t c = 0; c < n_cols; ++c) {
        const double v = std::abs(static_cast<double>(x[t * n_cols + c]));
        input.largest[c] = std::max(input.largest[c], v);
        input.squares[c] += v * v;
      }
    input.n += n_tokens;
  }
  void on_expert_input(const Op& op, size_t, const float* x, size_t n_tokens, size_t n_cols) override {
    if (n_tokens > 0) on_linear_input(op, x, n_tokens, n_cols);
  }
  std::vector<OutlierChannel> outliers() const {
    std::vector<OutlierChannel> all;
    for (const auto& [weight, input] : inputs_) {
      double energy = 0;
      for (double s : input.squares) energy += s;
      const double rms = std::sqrt(energy / static_cast<double>(input.n * input.squares.size()));
      const auto largest = std::max_element(input.largest.begin(), input.largest.end());
      const auto c = static_cast<size_t>(largest - input.largest.begin());
      if (rms > 0) all.push_back({weight, static_cast<uint32_t>(c), *largest / rms, input.squares[c] / energy});
    }
    std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.peak > b.peak; });
    if (all.size() > kOutliers) all.resize(kOutliers);
    return all;
  }

 private:
  struct Input {
    std::vector<double> largest, squares;
    uint64_t n = 0;
  };
  std::map<ValueId, std::string> reader_;
  std::map<std::string, Input> inputs_;
};

class Running {
 public:
  Running(const Model& model, std::span<const std::vector<TokenId>> windows, const StudyOptions& options, ThreadPool& pool)
      : model_(model), o_(options), pool_(pool), windows_(windows), start_(std::chrono::steady_clock::now()) {
    std::regex pattern;
    try {
      pattern = std::regex(o_.where, std::regex::ECMAScript);
    } catch (const std::regex_error& e) {
      fail(ExitCode::kUsage, "--where '{}': not a regular expression: {}", o_.where, e.what());
    }
    for (const ReadGroup& group : read_groups(model.graph()))
      for (const Op* op : group.linears)
        if (model.tensor(op->weight).spec().quantizable && std::regex_search(op->weight, pattern)) chosen_.insert(op->weight);
    if (chosen_.empty())
      fail(ExitCode::kUsage, "--where '{}' matches the weight of no linear (`tsubu inspect --tensors` lists the names)", o_.where);
    for (const std::string& name : chosen_) roles_.insert(std::string(role_name(model.tensor(name).spec().role)));
    load();
  }

  Study run() {
    HarmMeter meter(model_, windows_, pool_);
    meter_ = &meter;
    study_.model = model_.path();
    study_.context = meter.context();
    study_.n_windows = meter.n_chunks();
    study_.n_tokens_scored = meter.n_scored() * meter.n_chunks();
    study_.mean_nll = meter.mean_nll();
    outliers();
    const std::vector<Cell> cells = list_cells();
    study_.n_cells = cells.size();
    Progress progress("lens", cells.size(), "cells");
    // The first curve and codecs, then the map of sensitivities, then the rest.
    const size_t first = std::min<size_t>(cells.size(), kFirstCells);
    size_t i = 0;
    for (; i < first; ++i) step(cells[i], progress);
    slopes();
    map();
    if (o_.gradients) gradients();
    for (; i < cells.size(); ++i) step(cells[i], progress);
    progress.finish();
    for (const auto& [part, counts] : skipped_)
      if (counts.first > 0) study_.left_out.push_back(fmt::format("{} {}/{}", one_word(part), counts.first, counts.second));
    save();
    study_.seconds = seconds();
    return std::move(study_);
  }

 private:
  static constexpr size_t kFirstCells = 14;
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  bool time_is_over() const { return seconds() > 60 * o_.minutes; }

  std::vector<Cell> list_cells() const {
    std::vector<Cell> cells;
    const auto add = [&](Cell::What what, std::string_view perturbation, double r, uint64_t seed, const std::string& part,
                         const std::string& role = "") {
      Cell c;
      c.what = what;
      c.perturbation = parse_perturbation(perturbation);
      c.perturbation.r = r;
      c.perturbation.seed = seed;
      c.part = part;
      c.role = role;
      cells.push_back(std::move(c));
    };
    const auto fits = [&](std::string_view codec) {
      const TypeInfo* type = find_type(codec);
      return type && type->encode && std::all_of(chosen_.begin(), chosen_.end(), [&](const std::string& name) {
               return model_.tensor(name).n_cols() % type->block_len == 0;
             });
    };
    using What = Cell::What;
    for (double r : kGrid) add(What::kWeights, "gaussian", r, 1, "curves");
    for (std::string_view codec : kCodecs)
      if (fits(codec) && cells.size() < kFirstCells - 2) add(What::kWeights, codec, 0, 1, "codecs");
    add(What::kActivations, "gaussian", kMiddle, 1, "curves");
    add(What::kActivations, "gaussian", kMiddle / 4, 1, "curves");
    // Which way noise should go with the value is the study's oldest question, and differences of a tenth need every seed.
    for (uint64_t seed = 1; seed <= o_.n_seeds; ++seed)
      for (What what : {What::kWeights, What::kActivations})
        for (const char* kind : {"gaussian", "M+", "M-"}) add(what, kind, kMiddle, seed, "curves");
    for (uint64_t seed = 1; seed <= o_.n_seeds; ++seed) {
      if (seed == 1) {
        for (double p : kShares) add(What::kActivations, fmt::format("clip={:g}", p), 0, 1, "clipping");
        for (double p : kShares) add(What::kWeights, fmt::format("clip={:g}", p), 0, 1, "clipping");
        for (const SchemePair& pair : kSchemes) {
          Cell c;
          c.what = What::kNumerics;
          c.perturbation = parse_perturbation("gaussian");
          c.weights = pair.weights;
          c.activations = pair.activations;
          c.part = "number formats";
          cells.push_back(std::move(c));
        }
        for (const std::string& role : roles_) add(What::kActivations, "gaussian", kMiddle, 1, "activations by role", role);
      }
      for (double gamma : kGammas) add(What::kWeights, fmt::format("gamma={:g}", gamma), kMiddle, seed, "gamma");
      for (What what : {What::kActivations, What::kWeights, What::kBoth})
        for (const char* kind : {"gaussian", "M+", "M-", "uniform", "rademacher"}) {
          if (what == What::kBoth && std::string_view(kind) != "gaussian") continue;
          for (double r : kGrid) add(what, kind, r, seed, "curves");
        }
      for (double gamma : {0.0, 1.0, -1.0}) add(What::kActivations, fmt::format("gamma={:g}", gamma), kMiddle, seed, "gamma");
      if (seed == 1) {
        for (std::string_view codec : kCodecs)
          if (fits(codec)) add(What::kWeights, codec, 0, 1, "codecs");
        for (const std::string& role : roles_)
          for (double gamma : {0.0, 1.0, -1.0, 0.5, -0.5})
            add(What::kWeights, fmt::format("gamma={:g}", gamma), 2 * kMiddle, 1, "gamma by role", role);
      }
    }
    // Each once, at its first place.
    std::set<std::string> seen;
    std::vector<Cell> once;
    for (Cell& c : cells)
      if (seen.insert(c.id()).second) once.push_back(std::move(c));
    return once;
  }

  std::set<std::string> weights_of(const std::string& role) const {
    std::set<std::string> names;
    for (const std::string& name : chosen_)
      if (role.empty() || role_name(model_.tensor(name).spec().role) == role) names.insert(name);
    return names;
  }

  void step(const Cell& cell, Progress& progress) {
    const std::string id = cell.id();
    const auto known = work_["cells"].find(id);
    CellResult result;
    auto& counts = skipped_[cell.part];
    ++counts.second;
    if (known != work_["cells"].end()) {
      const Json& j = *known;
      result = {j.at("r"), j.at("kld"), j.at("kld_low"), j.at("kld_high"), j.at("ln_ppl_ratio"), j.at("top1")};
      ++study_.n_resumed;
    } else if (time_is_over()) {
      ++counts.first;
      return;
    } else {
      throw_if_interrupted();
      result = measure(cell);
      work_["cells"][id] = {{"r", result.r}, {"kld", result.kld}, {"kld_low", result.kld_low},
                            {"kld_high", result.kld_high}, {"ln_ppl_ratio", result.ln_ppl_ratio}, {"top1", result.top1}};
      save_sometimes();
    }
    study_.cells.emplace_back(cell, result);
    progress.advance(1, id);
  }

  CellResult measure(const Cell& cell) {
    const std::set<std::string> names = weights_of(cell.role);
    CellResult result;
    std::vector<PerturbedTensor> changed;
    std::vector<ModelTensor> tensors;
    EngineOptions engine;
    std::optional<InputPerturber> editor;
    if (cell.what == Cell::What::kNumerics) {
      if (!cell.weights.empty()) engine.numerics.weights = parse_scheme(cell.weights, SchemeUse::kWeights);
      if (!cell.activations.empty()) engine.numerics.activations = parse_scheme(cell.activations, SchemeUse::kActivations);
    }
    if (cell.what == Cell::What::kWeights || cell.what == Cell::What::kBoth) {
      double change = 0, norm = 0;
      changed.reserve(names.size());
      for (const std::string& name : names) {
        const ModelTensor& tensor = model_.tensor(name);
        changed.push_back(perturb(tensor, cell.perturbation, nullptr, pool_));
        tensors.emplace_back(tensor.spec(), type_named("F32"), std::as_bytes(std::span(changed.back().values)));
        const double squares = squares_of(tensor);
        norm += squares;
        change += changed.back().r * changed.back().r * squares;
      }
      result.r = std::sqrt(change / norm);
    }
    if (cell.what == Cell::What::kActivations || cell.what == Cell::What::kBoth) {
      editor.emplace(cell.perturbation, names, o_.each_token, pool_);
      engine.editor = &*editor;
      result.r = std::max(result.r, cell.perturbation.r);
    }
    std::vector<Replacement> replacements;
    for (const ModelTensor& t : tensors) replacements.push_back(&t);
    const Harm harm = meter_->measure_whole(engine, replacements, [&](size_t window) {
      throw_if_interrupted();
      if (editor) editor->next_window(window);
    });
    result.kld = harm.kld;
    result.kld_low = harm.kld_ci95.low;
    result.kld_high = harm.kld_ci95.high;
    result.ln_ppl_ratio = harm.ln_ppl_ratio;
    result.top1 = harm.top1;
    return result;
  }

  double squares_of(const ModelTensor& tensor) {
    auto [it, is_new] = squares_.emplace(tensor.name(), 0);
    if (!is_new) return it->second;
    std::vector<float> row(tensor.n_cols());
    for (uint64_t r = 0; r < tensor.n_rows(); ++r) {
      tensor.read_rows(r, 1, row.data());
      it->second += static_cast<double>(kernels().dot(row.data(), row.data(), row.size()));
    }
    return it->second;
  }

  // The layer × role map: Gaussian noise in one tensor at a time, embeddings and head too.
  void map() {
    SensitivityOptions s;
    s.probe = parse_perturbation("gaussian");
    s.r = kMiddle;
    auto& counts = skipped_["map of layers and roles"];
    const auto keep = [&](const std::string& name, const Sensitivity& found) {
      const TensorSpec& spec = model_.tensor(name).spec();
      study_.sensitivity_names.push_back(name);
      study_.sensitivity_roles.emplace_back(role_name(spec.role));
      study_.sensitivity_layers.push_back(spec.layer);
      study_.sensitivities.push_back(found);
      study_.sensitivities.back().tensor = nullptr;
    };
    const std::vector<Sensitivity> found = sensitivities(
        model_, *meter_, s, pool_, {},
        [&](const Sensitivity& one) {
          work_["map"][one.tensor->name()] = {{"r", one.r}, {"kld", one.kld}, {"alpha", one.alpha}, {"top1", one.top1}};
          keep(one.tensor->name(), one);
          save_sometimes();
        },
        [&](const ModelTensor& tensor) {
          ++counts.second;
          const auto known = work_["map"].find(tensor.name());
          if (known != work_["map"].end()) {
            Sensitivity one;
            one.r = known->at("r");
            one.kld = known->at("kld");
            one.alpha = known->at("alpha");
            one.top1 = known->at("top1");
            keep(tensor.name(), one);
            ++study_.n_resumed;
            return true;
          }
          if (time_is_over()) ++counts.first;
          return time_is_over();
        });
  }

  void gradients() {
    GradientStudyOptions g;
    g.types = o_.types;
    g.is_over = [&] { return time_is_over(); };
    g.work = &work_["gradients"];
    g.save = [&] { save_sometimes(); };
    study_.gradients = study_gradients(model_, windows_, o_.held.empty() ? windows_ : o_.held, g, pool_);
    skipped_["costs of single tensors"] = {study_.gradients->n_left_out, study_.gradients->n_costs};
  }

  void outliers() {
    ChannelWatch watch;
    const auto engine = Engine::make(model_, pool_, {.observer = &watch});
    const auto session = engine->new_session(windows_.front().size());
    const size_t n = std::min<size_t>(windows_.size(), 4);
    for (size_t w = 0; w < n; ++w) {
      session->truncate(0);
      engine->forward(*session, {windows_[w].data(), windows_[w].size() - 1}, 0, {});
    }
    study_.outliers = watch.outliers();
  }

  void slopes() {
    for (std::string_view codec : kCodecs) {
      const TypeInfo* type = find_type(codec);
      if (type && type->encode) slope(*type);
    }
  }

  void slope(const TypeInfo& type) {
    constexpr int kBins = kBinsAnOctave * kOctaves;
    std::vector<double> errors(kBins), counts(kBins);
    for (const std::string& name : chosen_) {
      const ModelTensor& tensor = model_.tensor(name);
      const uint64_t n = tensor.n_cols();
      if (n % type.block_len != 0) continue;
      const uint64_t rows = std::min<uint64_t>(kSlopeRows, tensor.n_rows());
      std::vector<float> x(n), y(n);
      std::vector<std::byte> bytes(n / type.block_len * type.block_bytes);
      double squares = 0, change = 0;
      std::vector<double> tensor_errors(kBins), tensor_counts(kBins);
      std::vector<std::vector<float>> xs, ys;
      for (uint64_t i = 0; i < rows; ++i) {
        tensor.read_rows(i * tensor.n_rows() / rows, 1, x.data());
        kernels().encode[type.index](x.data(), nullptr, bytes.data(), n);
        kernels().decode[type.index](bytes.data(), y.data(), n);
        for (uint64_t c = 0; c < n; ++c) {
          squares += static_cast<double>(x[c]) * static_cast<double>(x[c]);
          change += std::pow(static_cast<double>(y[c]) - static_cast<double>(x[c]), 2);
        }
        xs.push_back(x);
        ys.push_back(y);
      }
      if (squares <= 0 || change <= 0) continue;
      const double rms = std::sqrt(squares / static_cast<double>(rows * n));
      for (size_t i = 0; i < xs.size(); ++i)
        for (uint64_t c = 0; c < n; ++c) {
          const double magnitude = std::abs(static_cast<double>(xs[i][c])) / rms;
          if (magnitude <= 0) continue;
          const int bin = static_cast<int>(std::floor((std::log2(magnitude) - kLowestOctave) * kBinsAnOctave));
          if (bin < 0 || bin >= kBins) continue;
          const double d = static_cast<double>(ys[i][c]) - static_cast<double>(xs[i][c]);
          tensor_errors[static_cast<size_t>(bin)] += d * d;
          tensor_counts[static_cast<size_t>(bin)] += 1;
        }
      for (size_t b = 0; b < errors.size(); ++b) {
        errors[b] += tensor_errors[b] * static_cast<double>(rows * n) / change;
        counts[b] += tensor_counts[b];
      }
    }
    ErrorSlope result;
    result.codec = type.name;
    double w = 0, wx = 0, wy = 0, wxx = 0, wxy = 0;
    for (int b = 0; b < kBins; ++b) {
      const auto i = static_cast<size_t>(b);
      if (counts[i] < 30 || errors[i] <= 0) continue;
      const double x = kLowestOctave + (b + 0.5) / kBinsAnOctave, y = std::log2(errors[i] / counts[i]) / 2;
      result.magnitudes.push_back(std::exp2(x));
      result.errors.push_back(std::exp2(y));
      w += counts[i];
      wx += counts[i] * x;
      wy += counts[i] * y;
      wxx += counts[i] * x * x;
      wxy += counts[i] * x * y;
    }
    if (result.magnitudes.size() < 3) return;
    result.slope = (w * wxy - wx * wy) / (w * wxx - wx * wx);
    study_.slopes.push_back(std::move(result));
  }

  // What finished cells depend on.
  std::string key() const {
    std::string text = fmt::format("{} {} {} {} {} {}", TSUBU_VERSION, o_.where, o_.each_token, o_.text_hash, windows_.size(),
                                   windows_.front().size());
    for (const std::string& file : model_.files())
      text += fmt::format(" {} {}", file, std::filesystem::last_write_time(file).time_since_epoch().count());
    return hash_bytes(std::as_bytes(std::span(text)));
  }

  void load() {
    work_ = Json{{"key", key()}, {"cells", Json::object()}, {"map", Json::object()}};
    std::error_code ignored;
    if (o_.work_path.empty() || !std::filesystem::exists(o_.work_path, ignored)) return;
    Json found = parse_json(read_text_file(o_.work_path, uint64_t{1} << 28), o_.work_path);
    if (!found.is_object() || !found.contains("cells") || !found.contains("map") || found.value("key", "") != key()) {
      note(fmt::format("{}: of another model, text or selection: begun anew", o_.work_path));
      return;
    }
    work_ = std::move(found);
  }
  void save() {
    if (o_.work_path.empty()) return;
    AtomicFile file(o_.work_path);
    file.write(dump_json(work_));
    file.commit();
  }
  void save_sometimes() {
    constexpr double kSeconds = 10;
    if (seconds() - saved_ < kSeconds) return;
    saved_ = seconds();
    save();
  }

  const Model& model_;
  const StudyOptions& o_;
  ThreadPool& pool_;
  std::span<const std::vector<TokenId>> windows_;
  std::chrono::steady_clock::time_point start_;
  std::set<std::string> chosen_, roles_;
  HarmMeter* meter_ = nullptr;
  Json work_;
  double saved_ = 0;
  std::map<std::string, std::pair<size_t, size_t>> skipped_;  // by part: left out, of all
  std::map<std::string, double> squares_;
  Study study_;
};

}  // namespace

Study run_study(const Model& model, std::span<const std::vector<TokenId>> windows, const StudyOptions& options,
                ThreadPool& pool) {
  return Running(model, windows, options, pool).run();
}

}  // namespace tsubu
