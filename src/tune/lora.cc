#include "tune/lora.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>

#include "base/draws.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/size.h"
#include "gradient/loss.h"
#include "gradient/memory.h"
#include "kernel/kernels.h"
#include "tune/checkpoint.h"
#include "tune/loftq.h"
#include "tune/windows.h"

namespace tsubu {
namespace {

constexpr size_t kTile = 64;  // tokens, rows or columns of one item of work
constexpr std::string_view kStateSuffix = ".state";

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// c (n, n_w) = x (n, k) · wᵀ, all threads.
void products(const float* w, size_t ldw, size_t n_w, const float* x, size_t ldx, size_t n, size_t k, float* c, ThreadPool& pool) {
  pool.parallel_for((n + kTile - 1) / kTile, [&](size_t item, int) {
    const size_t first = item * kTile, count = std::min(kTile, n - first);
    kernels().gemm_nt(w, ldw, x + first * ldx, ldx, c + first * n_w, n_w, n_w, count, k);
  });
}

uint64_t key_of(const std::string& name) {
  const std::string digest = hash_bytes(std::as_bytes(std::span(name)));
  return std::stoull(digest, nullptr, 16);
}

Json curve_json(const std::vector<LoraPoint>& curve) {
  Json list = Json::array();
  for (const LoraPoint& p : curve) {
    Json point = {{"step", p.step}, {"loss", p.loss}, {"rate", p.rate}, {"norm", p.norm}};
    if (p.held_out) point["held_out"] = *p.held_out;
    list.push_back(std::move(point));
  }
  return list;
}

std::vector<LoraPoint> curve_from_json(const Json& list) {
  std::vector<LoraPoint> curve;
  for (const Json& p : list) {
    LoraPoint point{p.at("step").get<uint64_t>(), p.at("rate").get<double>(), p.at("norm").get<double>(), p.at("loss").get<double>(), {}};
    if (p.contains("held_out")) point.held_out = p["held_out"].get<double>();
    curve.push_back(point);
  }
  return curve;
}

class LoraTuning {
 public:
  LoraTuning(const Model& model, std::span<const TuneWindow> windows, const LoraOptions& options, ThreadPool& pool)
      : model_(model), windows_(windows), options_(options), pool_(pool), backward_(model, pool) {
    split();
    const std::vector<std::string> targets = targeted_tensors(model, options.targets);
    if (targets.empty()) fail(ExitCode::kUnsupported, "{}: the model has no linear that an adapter could take", model.path());
    const size_t n_learned = learned_.size();
    per_step_ = std::clamp<size_t>(options.tokens_per_step / std::max<size_t>(1, longest()), 1, n_learned);
    n_windows_ = options.n_tokens == 0 ? n_learned : std::max<uint64_t>(1, options.n_tokens / longest());
    n_steps_ = (n_windows_ + per_step_ - 1) / per_step_;
    result_.predicted_bytes = lora_memory(model, options, longest(), pool.size()).total();
    load_or_start(targets);
    for (const auto& [name, r] : result_.adapter.tensors) show(name);
    gradient_ = std::make_unique<LoraGradient>(result_.adapter, pool);
    backward_.keep_values(options.kept_bytes);
    backward_.reserve(longest());
  }

  // Time from one window each way; the adapter stays what it is.
  LoraPrediction predict() {
    LoraPrediction p{result_.predicted_bytes, result_.adapter.n_parameters(), n_steps_, 0};
    uint64_t trained = 0, judged = 0;
    for (uint64_t s = step_; s < n_steps_; ++s)
      for (size_t w : step_windows(s)) trained += windows_[w].tokens.size();
    for (size_t w : judged_) judged += windows_[w].tokens.size();
    const TuneWindow& w = windows_[step_windows(step_).front()];
    double seconds[2] = {0, 0};
    for (int round = 0; round < 2; ++round)  // the first one pays for the buffers
      for (const bool back : {false, true}) {
        const auto start = Clock::now();
        loss(w, 1, back ? gradient_.get() : nullptr);
        seconds[back] = seconds_since(start) / static_cast<double>(w.tokens.size());
      }
    const uint64_t judgements = (step_ == 0 ? 1 : 0) + options_.n_judgements;
    p.seconds = seconds[1] * static_cast<double>(trained) + seconds[0] * static_cast<double>(judged * judgements);
    note(fmt::format("{} steps of {} windows{}, about {}", n_steps_, per_step_, step_ > 0 ? fmt::format(", {} done", step_) : "",
                     format_duration(p.seconds)));
    return p;
  }

  LoraResult run() {
    const auto start = Clock::now();
    for (size_t w : judged_) result_.n_judged += windows_[w].n_targets();
    try {
      train();
    } catch (const Error& e) {
      if (e.code() != ExitCode::kInterrupted || options_.checkpoint.empty()) throw;
      save();
      fail(ExitCode::kInterrupted, "interrupted; {} holds step {} of {}: the same command goes on from there", options_.checkpoint, step_,
           n_steps_);
    }
    result_.seconds = seconds_since(start);
    result_.scratch_bytes = backward_.scratch_bytes() + gradient_->size_bytes() + state_bytes();
    result_.peak_bytes = peak_resident_bytes();
    result_.n_steps = n_steps_;
    return std::move(result_);
  }

 private:
  void split() {
    const size_t n = windows_.size();
    TextWindows split = split_windows(n, std::max<size_t>(1, longest()), options_.held_out, 0, options_.judged_tokens);
    learned_ = std::move(split.learned);
    judged_ = std::move(split.judged);
    for (size_t w = 0; judged_.empty() && w < n; ++w) learned_.push_back(w);  // too few for both
    if (learned_.empty()) fail(ExitCode::kUsage, "no window of text to learn from: give more text or a smaller --ctx");
    order_ = EpochOrder(learned_, options_.seed);
  }

  size_t longest() const {
    size_t most = 0;
    for (const TuneWindow& w : windows_) most = std::max(most, w.tokens.size());
    return most;
  }

  uint64_t state_bytes() const {
    uint64_t total = result_.adapter.n_parameters() * sizeof(float);
    for (const auto& [name, s] : states_) total += s.a.state_bytes() + s.b.state_bytes();
    return total;
  }

  std::string key() const {
    Json json = {{"format", 2},
                 {"model", options_.model_hash},
                 {"windows", windows_hash(windows_)},
                 {"rank", options_.rank},
                 {"alpha", options_.alpha},
                 {"targets", options_.targets},
                 {"loftq", options_.float_model ? options_.float_model->path() : ""},
                 {"trained", n_windows_},
                 {"per_step", per_step_},
                 {"rate", options_.rate},
                 {"warm_up", options_.schedule.warm_up},
                 {"floor", options_.schedule.floor},
                 {"max_norm", options_.max_norm},
                 {"held_out", options_.held_out},
                 {"judged", options_.judged_tokens},
                 {"judgements", options_.n_judgements},
                 {"decay", options_.adamw.weight_decay},
                 {"8bit", options_.adamw.states_8bit},
                 {"seed", options_.seed}};
    const std::string text = json.dump();
    return hash_bytes(std::as_bytes(std::span(text)));
  }

  void load_or_start(const std::vector<std::string>& targets) {
    result_.adapter = fresh_adapter(model_, targets, options_.rank, options_.alpha, options_.seed);
    for (const auto& [name, r] : result_.adapter.tensors)
      states_[name] = {AdamW(r->a.size(), options_.adamw), AdamW(r->b.size(), options_.adamw)};
    if (load()) return;
    if (options_.float_model) start_from_error(model_, *options_.float_model, result_.adapter, options_.seed, pool_);
  }

  bool load() {
    if (options_.checkpoint.empty() || !std::filesystem::exists(options_.checkpoint)) return false;
    const SafetensorsFile file = open_checkpoint(options_.checkpoint);
    const auto text = [&](const char* key) {
      const auto it = file.metadata().find(key);
      return it == file.metadata().end() ? std::string() : it->second;
    };
    check_checkpoint_key(text("key") == key(), options_.checkpoint);
    const auto bytes = [&](const std::string& name) {
      const SafeTensor* tensor = file.find(name);
      if (!tensor) fail(ExitCode::kBadInput, "{}: tensor {} is missing: remove the file to start anew", options_.checkpoint, name);
      return tensor->data;
    };
    for (auto& [name, r] : result_.adapter.tensors) {
      for (auto [suffix, values] : {std::pair{".a", &r->a}, std::pair{".b", &r->b}}) {
        const auto data = bytes(name + suffix);
        if (data.size() != values->size() * sizeof(float))
          fail(ExitCode::kBadInput, "{}: tensor {}{}: {} bytes, expected {}", options_.checkpoint, name, suffix, data.size(),
               values->size() * sizeof(float));
        std::memcpy(values->data(), data.data(), data.size());
      }
      states_.at(name).a.load(bytes(name + ".a.state"), options_.checkpoint);
      states_.at(name).b.load(bytes(name + ".b.state"), options_.checkpoint);
    }
    const Json state = parse_json(text("state"), options_.checkpoint);
    step_ = result_.first_step = state.at("step").get<uint64_t>();
    result_.before = state.at("before").get<double>();
    result_.n_trained = state.at("trained").get<uint64_t>();
    result_.curve = curve_from_json(state.at("curve"));
    has_before_ = state.at("has_before").get<bool>();
    note(fmt::format("{}: going on from step {} of {}", options_.checkpoint, step_, n_steps_));
    return true;
  }

  void save() {
    SafetensorsWriter writer(options_.checkpoint);
    const Json progress = {{"step", step_}, {"before", result_.before}, {"has_before", has_before_}, {"trained", result_.n_trained},
                        {"curve", curve_json(result_.curve)}};
    writer.set_metadata("key", key());
    writer.set_metadata("state", progress.dump());
    for (const auto& [name, r] : result_.adapter.tensors) {
      writer.declare(name + ".a", SafeDtype::kF32, {r->a.size() / r->n_cols, r->n_cols});
      writer.declare(name + ".b", SafeDtype::kF32, {r->n_rows, r->rank});
      writer.declare(name + ".a.state", SafeDtype::kU8, {states_.at(name).a.state_bytes()});
      writer.declare(name + ".b.state", SafeDtype::kU8, {states_.at(name).b.state_bytes()});
    }
    for (std::string name : writer.begin_data()) {
      const bool is_state = name.ends_with(kStateSuffix);
      if (is_state) name.resize(name.size() - kStateSuffix.size());
      const bool is_a = name.ends_with(".a");
      name.resize(name.size() - 2);
      const LowRank& r = *result_.adapter.tensors.at(name);
      const State& state = states_.at(name);
      if (is_state)
        writer.write((is_a ? state.a : state.b).save());
      else
        writer.write(std::as_bytes(std::span(is_a ? r.a : r.b)));
    }
    writer.commit();
  }

  // The loss of a window's targets, summed; with a sink, its gradient · scale.
  double loss(const TuneWindow& w, float scale, GradientSink* sink) {
    const size_t n_vocab = backward_.n_vocab();
    const auto first = static_cast<size_t>(std::find_if(w.targets.begin(), w.targets.end(), [](TokenId t) { return t >= 0; }) - w.targets.begin());
    if (first == w.targets.size()) return 0;
    const LogitLoss f = [&](size_t at, size_t n, float* logits) {
      return cross_entropy(std::span(w.targets).subspan(at, n), scale, logits, n_vocab, pool_);
    };
    return sink ? backward_.run(w.tokens, first, f, *sink, w.starts) : backward_.forward(w.tokens, first, f, w.starts);
  }

  double judge() {
    double sum = 0;
    for (size_t w : judged_) sum += loss(windows_[w], 1, nullptr);
    return sum / static_cast<double>(std::max<uint64_t>(1, result_.n_judged));
  }

  // Windows of a step; the last step of all may have fewer.
  std::vector<size_t> step_windows(uint64_t step) {
    std::vector<size_t> list;
    for (uint64_t at = step * per_step_; at < std::min(n_windows_, (step + 1) * per_step_); ++at) list.push_back(order_.at(at));
    return list;
  }

  void train() {
    uint64_t total = 0;
    for (uint64_t s = step_; s < n_steps_; ++s)
      for (size_t w : step_windows(s)) total += windows_[w].tokens.size();
    if (step_ < n_steps_) result_.predicted_seconds = predict().seconds;
    if (!has_before_ && !judged_.empty()) {
      result_.before = judge();
      has_before_ = true;
      note(fmt::format("held out: {:.4f} nats a target", result_.before));
    }
    const uint64_t judge_every = std::max<uint64_t>(1, (n_steps_ + options_.n_judgements - 1) / std::max<uint32_t>(1, options_.n_judgements));
    Progress progress("tune lora", total, "tokens");
    auto last_save = Clock::now();
    const auto begin = Clock::now();
    for (;;) {
      // Before the step: an interrupted measure is taken again.
      const bool is_due = step_ > 0 && !judged_.empty() && (step_ % judge_every == 0 || step_ == n_steps_);
      if (is_due && !result_.curve.back().held_out) result_.curve.back().held_out = judge();
      if (step_ == n_steps_) break;
      result_.curve.push_back(step_once(progress));
      if (options_.on_step) options_.on_step(step_);
      if (options_.checkpoint.empty() || step_ == n_steps_ || seconds_since(last_save) < options_.save_seconds) continue;
      save();
      last_save = Clock::now();
    }
    progress.finish();
    const double spent = seconds_since(begin);
    result_.tokens_per_second = spent > 0 ? static_cast<double>(total) / spent : 0;
    if (!result_.curve.empty() && result_.curve.back().held_out) result_.after = *result_.curve.back().held_out;
  }

  LoraPoint step_once(Progress& progress) {
    const std::vector<size_t> list = step_windows(step_);
    uint64_t n_targets = 0;
    for (size_t w : list) n_targets += windows_[w].n_targets();
    gradient_->clear();
    double sum = 0;
    for (size_t w : list) {
      sum += loss(windows_[w], 1.0f / static_cast<float>(std::max<uint64_t>(1, n_targets)), gradient_.get());
      progress.advance(windows_[w].tokens.size());
    }
    LoraPoint point;
    point.loss = sum / static_cast<double>(std::max<uint64_t>(1, n_targets));
    double squares = 0;
    for (const auto& [name, s] : gradient_->all())
      for (const auto* g : {&s.a, &s.b})
        for (float v : *g) squares += static_cast<double>(v) * static_cast<double>(v);
    point.norm = std::sqrt(squares);
    if (!std::isfinite(point.loss) || !std::isfinite(point.norm))
      fail(ExitCode::kNumeric, "step {}: the loss or its gradient is not finite: give a lower --rate than {:g}", step_ + 1, options_.rate);
    const double clip = options_.max_norm > 0 && point.norm > options_.max_norm ? options_.max_norm / point.norm : 1;
    point.rate = options_.rate * options_.schedule.share(step_, n_steps_);
    for (auto& [name, s] : gradient_->all()) {
      if (clip < 1)
        for (auto* g : {&s.a, &s.b})
          for (float& v : *g) v *= static_cast<float>(clip);
      LowRank& r = *result_.adapter.tensors.find(name)->second;
      State& state = states_.at(name);
      state.a.step(r.a, s.a, point.rate, step_ + 1, pool_);
      state.b.step(r.b, s.b, point.rate, step_ + 1, pool_);
      if (model_.tensor(name).n_matrices() > 1) show(name);  // experts' matrices have copies of their parts
    }
    point.step = ++step_;
    result_.n_trained += n_targets;
    return point;
  }

  void show(const std::string& name) {
    adapted_[name] = model_.tensor(name).with_low_rank(result_.adapter.tensors.at(name));
    backward_.replace_weight(name, adapted_[name]);
  }

  struct State {
    AdamW a, b;
  };
  const Model& model_;
  std::span<const TuneWindow> windows_;
  const LoraOptions& options_;
  ThreadPool& pool_;
  Backward backward_;
  std::map<std::string, ModelTensor> adapted_;
  std::unique_ptr<LoraGradient> gradient_;
  std::map<std::string, State> states_;
  std::vector<size_t> learned_, judged_;
  EpochOrder order_;
  size_t per_step_ = 1;
  uint64_t n_windows_ = 0, n_steps_ = 0, step_ = 0;
  bool has_before_ = false;
  LoraResult result_;
};

}  // namespace

LoraGradient::LoraGradient(const Adapter& adapter, ThreadPool& pool) : adapter_(adapter), pool_(pool) {
  for (const auto& [name, r] : adapter.tensors) {
    Sums& s = sums_[name];
    s.a.resize(r->a.size());
    s.b.resize(r->b.size());
  }
}

void LoraGradient::clear() {
  for (auto& [name, s] : sums_)
    for (auto* v : {&s.a, &s.b}) std::fill(v->begin(), v->end(), 0.0f);
}

void LoraGradient::on_linear(const Op& op, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows) {
  add(op.weight, 0, x, g, n_tokens, n_cols, n_rows);
}

void LoraGradient::on_expert(const Op& op, size_t expert, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows) {
  add(op.weight, expert, x, g, n_tokens, n_cols, n_rows);
}

void LoraGradient::add(const std::string& name, size_t matrix, const float* x, const float* g, size_t n_tokens, size_t n_cols,
                       size_t n_rows) {
  const auto found = adapter_.tensors.find(name);
  if (found == adapter_.tensors.end()) return;
  const LowRank& r = *found->second;
  Sums& s = sums_.find(name)->second;
  const size_t rank = r.rank, stride = padded_stride(n_tokens), b_stride = padded_stride(n_rows);
  const size_t first_a = matrix * rank * n_cols, first_b = matrix * n_rows * rank;
  for (auto [buffer, n] : {std::pair{&u_, n_tokens * rank}, std::pair{&v_, n_tokens * rank}, std::pair{&b_transposed_, rank * b_stride},
                           std::pair{&small_, rank * stride}, std::pair{&product_, std::max(n_rows, n_cols) * rank}})
    if (buffer->size() < n) buffer->resize(n);
  transpose(x, n_tokens, n_cols, x_transposed_, pool_);
  transpose(g, n_tokens, n_rows, g_transposed_, pool_);
  transpose(r.b.data() + first_b, rank, n_rows, rank, b_transposed_.data(), b_stride);
  products(r.a.data() + first_a, n_cols, rank, x, n_cols, n_tokens, n_cols, u_.data(), pool_);
  products(b_transposed_.data(), b_stride, rank, g, n_rows, n_tokens, n_rows, v_.data(), pool_);

  transpose(u_.data(), rank, n_tokens, rank, small_.data(), stride);
  products(small_.data(), stride, rank, g_transposed_.data(), stride, n_rows, n_tokens, product_.data(), pool_);
  kernels().axpy(r.scale, product_.data(), s.b.data() + first_b, n_rows * rank);

  transpose(v_.data(), rank, n_tokens, rank, small_.data(), stride);
  pool_.parallel_for((n_cols + kTile - 1) / kTile, [&](size_t item, int) {
    const size_t first = item * kTile, n = std::min(kTile, n_cols - first);
    kernels().gemm_nt(x_transposed_.data() + first * stride, stride, small_.data(), stride, product_.data() + first, n_cols, n, rank,
                      n_tokens);
  });
  kernels().axpy(r.scale, product_.data(), s.a.data() + first_a, rank * n_cols);
}

uint64_t LoraGradient::size_bytes() const {
  uint64_t floats = u_.size() + v_.size() + small_.size() + x_transposed_.size() + g_transposed_.size() + b_transposed_.size() + product_.size();
  for (const auto& [name, s] : sums_) floats += s.a.size() + s.b.size();
  return floats * sizeof(float);
}

Adapter fresh_adapter(const Model& model, std::span<const std::string> tensors, size_t rank, double alpha, uint64_t seed) {
  Adapter adapter;
  for (const std::string& name : tensors) {
    const ModelTensor& t = model.tensor(name);
    auto r = std::make_shared<LowRank>();
    r->n_rows = t.n_rows();
    r->n_cols = t.n_cols();
    r->rank = rank;
    r->scale = static_cast<float>(alpha / static_cast<double>(rank));
    r->a.resize(t.n_matrices() * rank * r->n_cols);
    r->b.resize(r->n_rows * rank);
    const double bound = 1 / std::sqrt(static_cast<double>(r->n_cols));
    for (size_t k = 0; k < t.n_matrices() * rank; ++k) {
      RowDraws draws(seed, key_of(name), k);
      for (size_t c = 0; c < r->n_cols; ++c) r->a[k * r->n_cols + c] = static_cast<float>(bound * (2 * draws.uniform() - 1));
    }
    adapter.tensors[name] = std::move(r);
  }
  return adapter;
}

LoraMemory lora_memory(const Model& model, const LoraOptions& options, size_t longest_window, int n_threads) {
  LoraMemory memory;
  memory.now = resident_bytes() + kLaterBytes;
  memory.weights = model.weight_bytes() + (options.float_model ? options.float_model->weight_bytes() : 0);
  uint64_t parameters = 0, copies = 0, states = 0, most_state = 0, most_rows = 0, most_cols = 0, loftq = 0;
  for (const std::string& name : targeted_tensors(model, options.targets)) {
    const ModelTensor& t = model.tensor(name);
    const uint64_t n_rows = t.n_rows() / t.n_matrices(), n_cols = t.n_cols();
    for (const uint64_t n : {options.rank * t.n_rows(), options.rank * t.n_matrices() * n_cols}) {
      parameters += n;
      if (t.n_matrices() > 1) copies += n;
      states += AdamW::state_bytes(n, options.adamw);
      most_state = std::max(most_state, AdamW::state_bytes(n, options.adamw));
    }
    most_rows = std::max(most_rows, n_rows);
    most_cols = std::max(most_cols, n_cols);
    if (options.float_model) loftq = std::max(loftq, loftq_bytes(n_rows, n_cols, options.rank));
  }
  memory.adapter = (2 * parameters + copies) * sizeof(float) + states;
  const uint64_t stride = padded_stride(longest_window);
  const uint64_t scratch = (most_rows + most_cols + 3 * options.rank) * stride +
                           options.rank * (padded_stride(most_rows) + std::max(most_rows, most_cols));
  const uint64_t n_vocab = model.graph().widths[static_cast<size_t>(model.graph().logits)];
  memory.passes = predicted_backward_bytes(model, {longest_window, n_threads, options.kept_bytes}) + scratch * sizeof(float) + most_state +
                  static_cast<uint64_t>(n_threads) * n_vocab * sizeof(float);
  memory.passes = std::max(memory.passes, loftq);
  return memory;
}

LoraPrediction predict_lora(const Model& model, std::span<const TuneWindow> windows, const LoraOptions& options, ThreadPool& pool) {
  LoraOptions o = options;
  o.checkpoint.clear();
  o.float_model = nullptr;
  return LoraTuning(model, windows, o, pool).predict();
}

LoraResult tune_lora(const Model& model, std::span<const TuneWindow> windows, const LoraOptions& options, ThreadPool& pool) {
  if (options.rank == 0 || !(options.alpha > 0)) fail(ExitCode::kUsage, "LoRA of rank {} and alpha {:g}: expected both above 0", options.rank, options.alpha);
  return LoraTuning(model, windows, options, pool).run();
}

Json to_json(const LoraResult& r) {
  Json json = {{"parameters", r.adapter.n_parameters()},
               {"tensors", r.adapter.tensors.size()},
               {"steps", r.n_steps},
               {"first_step", r.first_step},
               {"trained_targets", r.n_trained},
               {"held_out", {{"targets", r.n_judged}, {"before", r.before}, {"after", r.after}}},
               {"seconds", r.seconds},
               {"predicted_seconds", r.predicted_seconds},
               {"tokens_per_second", r.tokens_per_second},
               {"predicted_bytes", r.predicted_bytes},
               {"peak_bytes", r.peak_bytes},
               {"scratch_bytes", r.scratch_bytes}};
  json["curve"] = curve_json(r.curve);
  return json;
}

}  // namespace tsubu
