#include "tune/qat.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <set>

#include "base/draws.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/progress.h"
#include "gradient/backward.h"
#include "gradient/loss.h"
#include "gradient/memory.h"
#include "gradient/weight_gradients.h"
#include "kernel/kernels.h"
#include "tune/checkpoint.h"
#include "tune/windows.h"

namespace tsubu {
namespace {

constexpr size_t kTimedTokens = 128;               // of the window that the estimate measures
constexpr size_t kTimedWeights = size_t{1} << 20;  // of the optimizer
constexpr double kSaveSeconds = 300;               // between checkpoints at most, besides those where it judges
constexpr const char* kMastersPrefix = "master.";
constexpr const char* kStatePrefix = "adamw.";
constexpr const char* kBestPrefix = "best.";

class Stopwatch {
 public:
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - start_).count();
    start_ = now;
    return seconds;
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// A weight that is rounded before each step: its master, what the forward pass sees, and the rows of the file.
struct Trained {
  const TypeInfo* type = nullptr;
  size_t n_rows = 0, n_cols = 0;
  AlignedVector<float> master, seen;  // no master when frozen; nothing seen when the type is F32: the master itself
  std::vector<std::byte> encoded;     // empty then, too
  std::vector<std::byte> best;        // encoded rows of the best point
  ModelTensor tensor;
  AdamW adam;
  double size = 0;  // root mean square of the start

  bool is_exact() const { return encoded.empty(); }
  bool is_trained() const { return adam.size() > 0; }
  size_t n() const { return n_rows * n_cols; }
  std::span<const std::byte> rows() const {
    return is_exact() ? std::as_bytes(std::span(master)) : std::span<const std::byte>(encoded);
  }

  // Encodes the values, decodes what was encoded.
  void round(const float* values, ThreadPool& pool) {
    if (is_exact()) return;
    const size_t row_bytes = encoded.size() / n_rows;
    const size_t rows_an_item = std::max<size_t>(1, (size_t{1} << 13) / n_cols);
    pool.parallel_for((n_rows + rows_an_item - 1) / rows_an_item, [&](size_t item, int) {
      const size_t end = std::min(n_rows, (item + 1) * rows_an_item);
      for (size_t r = item * rows_an_item; r < end; ++r) {
        std::byte* row = encoded.data() + r * row_bytes;
        kernels().encode[type->index](values + r * n_cols, nullptr, row, n_cols);
        kernels().decode[type->index](row, seen.data() + r * n_cols, n_cols);
      }
    });
  }
};

// The gradients of those weights alone.
class TrainedGradients : public WeightGradients {
 public:
  TrainedGradients(const Model& model, ThreadPool& pool, const std::map<std::string, Trained>& trained, bool bf16_products)
      : WeightGradients(model, pool, bf16_products) {
    for (const auto& [name, t] : trained)
      if (t.is_trained()) names_.insert(name);
  }

 private:
  bool wants(const std::string& name) const override { return names_.contains(name); }
  std::set<std::string> names_;
};

std::vector<TokenId> next_tokens(const std::vector<TokenId>& tokens) {
  std::vector<TokenId> targets(tokens.begin() + 1, tokens.end());
  targets.push_back(-1);
  return targets;
}

BackwardOptions training_of(const QatOptions& options) {
  BackwardOptions training;
  training.numerics.activations = options.activations;
  training.bf16_products = options.bf16_products;
  if (options.activations && options.activations->granularity == Granularity::kTensor)
    fail(ExitCode::kUsage, "activations in {} have static scales, which training would outgrow: choose {}:token",
         options.activations->name(), options.activations->format->name);
  return training;
}

Json point_json(const QatPoint& p) {
  return {{"step", p.step},
          {"tokens", p.tokens},
          {"loss", p.loss},
          {"divergence", p.divergence},
          {"cross_entropy", p.cross_entropy},
          {"rate", p.rate}};
}

QatPoint point_of(const Json& j) {
  return {j.at("step").get<uint64_t>(),     j.at("tokens").get<uint64_t>(),        j.at("loss").get<double>(),
          j.at("divergence").get<double>(), j.at("cross_entropy").get<double>(), j.at("rate").get<double>()};
}

}  // namespace

class Qat::Run {
 public:
  Run(const Model& model, const std::map<std::string, QatTensor>& tensors, const Corpus& corpus, const QatOptions& options,
      ThreadPool& pool)
      : model_(model), corpus_(corpus), options_(options), pool_(pool), teacher_(model, pool, {.numerics = {}, .bf16_products = options.bf16_products}),
        student_(model, pool, training_of(options)) {
    student_.keep_values(options.kept_bytes);
    if (options.bf16_products) {
      BackwardOptions judging = training_of(options);
      judging.bf16_products = false;
      judging_teacher_ = std::make_unique<Backward>(model, pool);
      judging_student_ = std::make_unique<Backward>(model, pool, judging);
    }
    windows_ = split_windows(corpus.chunks.size(), corpus.context, options.held_out, 0, options.judged_tokens);
    if (windows_.learned.empty() || windows_.judged.empty())
      fail(ExitCode::kUsage, "{} windows of {} tokens cannot be split into some to learn from and some to judge by: give more text",
           corpus.chunks.size(), corpus.context);
    order_ = EpochOrder(windows_.learned, options.seed);
    per_step_ = std::max<size_t>(1, options.tokens_per_step / corpus.context);
    const uint64_t wanted = options.n_tokens > 0 ? options.n_tokens : windows_.learned.size() * uint64_t{corpus.context};
    n_steps_ = std::max<uint64_t>(1, (wanted + per_step_ * corpus.context - 1) / (per_step_ * corpus.context));
    std::set<std::string> used;
    for (const Op& op : model.graph().ops) {
      if (!op.weight.empty()) used.insert(op.weight);
      if (!op.bias.empty() && op.kind != OpKind::kRoute) used.insert(op.bias);
    }
    for (const auto& [name, q] : tensors) {
      const ModelTensor& source = model.tensor(name);
      if (!used.contains(name) || !kernels().encode[q.type->index]) continue;
      make(source, q);
    }
    for (const Op& op : model.graph().ops) size_of_zeros(op);
    gradients_ = std::make_unique<TrainedGradients>(model, pool, trained_, options.bf16_products);
    key_ = key(tensors);
  }

  QatEstimate estimate() {
    QatEstimate e;
    e.n_steps = n_steps_;
    e.n_tokens = n_steps_ * per_step_ * corpus_.context;
    e.checkpoint_bytes = checkpoint_bytes();
    e.memory_bytes = memory_bytes();
    for (const auto& [name, t] : trained_) e.n_weights += t.n();
    const double a_step = encoding_seconds() + optimizer_seconds(e.n_weights);
    std::vector<TokenId> tokens = corpus_.chunks[windows_.learned.front()];
    tokens.resize(std::min(tokens.size(), kTimedTokens));
    const auto timed = [&](GradientSink* sink) {
      Stopwatch watch;
      pass(tokens, 1, sink);
      return watch.lap();
    };
    timed(gradients_.get());  // touches the pages
    const double trained = timed(gradients_.get()), judged = timed(nullptr);
    gradients_->clear();
    const double per_token = trained / static_cast<double>(tokens.size());
    const double judged_tokens = static_cast<double>(windows_.judged.size() * corpus_.context);
    e.seconds = static_cast<double>(n_steps_) * a_step + static_cast<double>(e.n_tokens) * per_token +
                (options_.n_evaluations + 1) * judged_tokens * judged / static_cast<double>(tokens.size());
    // Buffers of the short window would stay beside those of whole ones.
    for (Backward* b : {&teacher_, &student_, judging_teacher_.get(), judging_student_.get()})
      if (b) b->release();
    AlignedVector<float>().swap(base_);
    return e;
  }

  QatResult run() {
    QatResult result;
    result.n_steps = n_steps_;
    result.n_tokens = n_steps_ * per_step_ * corpus_.context;
    result.n_judged = windows_.judged.size() * corpus_.context;
    for (const auto& [name, t] : trained_) {
      result.n_weights += t.n();
      if (t.is_trained()) result.n_trained += t.n();
    }
    seconds_.clear();
    restore();
    result.first_step = step_;
    Progress progress("qat", (n_steps_ - step_) * per_step_ * corpus_.context, "tokens");
    Stopwatch whole;
    try {
      // A run that was interrupted while it judged has still to do it.
      if (curve_.empty() || (is_judged(step_) && curve_.back().step < step_)) judge();
      Stopwatch since_saved;
      double unsaved = 0;
      while (step_ < n_steps_) {
        one_step(progress);
        const bool judges = is_judged(step_);
        if (judges) judge();
        unsaved += since_saved.lap();
        if (!judges && unsaved < kSaveSeconds) continue;
        save();
        unsaved = 0;
      }
    } catch (const Error& e) {
      if (e.code() != ExitCode::kInterrupted || options_.checkpoint.empty() || step_ == 0) throw;
      save();
      fail(ExitCode::kInterrupted, "interrupted after step {} of {}; {} holds it: the same command goes on from there", step_,
           n_steps_, options_.checkpoint);
    }
    progress.finish();
    result.seconds = whole.lap();
    result.tokens_per_second =
        static_cast<double>((n_steps_ - result.first_step) * per_step_ * corpus_.context) / result.seconds;
    for (const auto& [what, seconds] : seconds_) result.shares[what] = seconds / result.seconds;
    for (auto& [name, t] : trained_) result.tensors[name] = std::move(t.best);
    result.peak_bytes = peak_resident_bytes();
    result.curve = curve_;
    result.best = best_;
    result.float_cross_entropy = float_cross_entropy_;
    return result;
  }

 private:
  // Biases that are all zeros have no size of their own to take steps by: that of the weights beside them.
  void size_of_zeros(const Op& op) {
    const auto bias = trained_.find(op.bias), weight = trained_.find(op.weight);
    if (bias == trained_.end() || bias->second.size != 0) return;
    if (weight != trained_.end()) bias->second.size = weight->second.size;
  }

  double encoding_seconds() {
    Stopwatch watch;
    for (auto& [name, t] : trained_)
      if (t.is_trained()) t.round(t.master.data(), pool_);
    return watch.lap();
  }

  double optimizer_seconds(uint64_t n_weights) {
    AdamW adam(std::min<size_t>(kTimedWeights, std::max<uint64_t>(1, n_weights)), options_.adam);
    std::vector<float> weights(adam.size()), gradient(adam.size(), 1.0f);
    adam.step(weights, gradient, 0, 1, pool_);
    Stopwatch watch;
    adam.step(weights, gradient, 0, 2, pool_);
    return watch.lap() * static_cast<double>(n_weights) / static_cast<double>(adam.size());
  }

  uint64_t checkpoint_bytes() const {
    uint64_t bytes = 0;
    for (const auto& [name, t] : trained_)
      bytes += t.rows().size() + (t.is_trained() ? t.n() * sizeof(float) + t.adam.state_bytes() : 0);
    return bytes;
  }

  // Of the whole process at its peak, before the first pass: what is there now (the program, the text, masters, what is seen of
  // them, states, rows, the mapped pages that were read) and what the run will add.
  uint64_t memory_bytes() const {
    LinearGradientSizes products(options_.bf16_products);
    uint64_t gradients = 0, best = 0, unread = 0, state = 0, held = 0;
    for (const auto& [name, t] : trained_) {
      held += (t.master.size() + t.seen.size()) * sizeof(float) + t.encoded.size() + t.adam.state_bytes();
      best += t.rows().size();
      state = std::max(state, t.adam.state_bytes());
      if (t.is_trained()) gradients += t.n() * sizeof(float);
    }
    const uint64_t n = corpus_.context, n_vocab = teacher_.n_vocab();
    for (const Op& op : model_.graph().ops) {
      const auto found = is_linear(op) ? trained_.find(op.weight) : trained_.end();
      if (found == trained_.end() || !found->second.is_trained()) continue;
      const uint64_t n_rows = found->second.n_rows / model_.tensor(op.weight).n_matrices();
      products.weight(n_rows, found->second.n_cols, &op == &model_.graph().ops.back() ? std::min<uint64_t>(n, student_.head_tokens()) : n);
    }
    for (const ModelTensor& t : model_.tensors())
      if (options_.start || !trained_.contains(t.name())) unread += t.size_bytes();
    const auto passes = [&](const Backward& b, bool goes_back, const BackwardOptions& options) {
      const uint64_t bytes = predicted_backward_bytes(model_, {n, pool_.size(), goes_back ? options_.kept_bytes : 0, goes_back, options});
      return bytes - std::min(bytes, b.scratch_bytes());
    };
    BackwardOptions training = training_of(options_), judging = training;
    judging.bf16_products = false;
    uint64_t scratch = passes(teacher_, false, {.numerics = {}, .bf16_products = options_.bf16_products}) + passes(student_, true, training);
    if (judging_teacher_) scratch += passes(*judging_teacher_, false, {}) + passes(*judging_student_, false, judging);
    scratch += products.bytes(pool_.size()) + (n + static_cast<uint64_t>(pool_.size())) * n_vocab * sizeof(float) + state;
    std::error_code error;
    const bool restores = !options_.checkpoint.empty() && std::filesystem::exists(options_.checkpoint, error);
    return std::max(resident_bytes(), held) + kLaterBytes + gradients + best + unread + std::max(scratch, restores ? checkpoint_bytes() : 0);
  }

  void make(const ModelTensor& source, const QatTensor& q) {
    const std::string& name = source.name();
    Trained& t = trained_[name];
    t.type = q.type;
    t.n_rows = source.n_rows();
    t.n_cols = source.n_cols();
    const ModelTensor* from = options_.start ? options_.start->find(name) : &source;
    if (!from || from->spec().shape != source.spec().shape)
      fail(ExitCode::kBadInput, "{}: {}: expected a tensor of the model's shape (was it made from {}?)", options_.start->path(),
           name, model_.path());
    t.master.resize(t.n());
    from->read_rows(0, t.n_rows, t.master.data());
    double sum = 0;
    for (size_t r = 0; r < t.n_rows; ++r) {
      const float* row = t.master.data() + r * t.n_cols;
      sum += static_cast<double>(kernels().dot(row, row, t.n_cols));
    }
    t.size = std::sqrt(sum / static_cast<double>(t.n()));
    if (!std::isfinite(t.size))
      fail(ExitCode::kBadInput, "{}: {}: weights that are not finite, or too large to train",
           options_.start ? options_.start->path() : model_.path(), name);
    if (t.type->name != "F32") {
      t.seen.resize(t.n());
      t.encoded.resize(tensor_bytes(*t.type, t.n_rows, t.n_cols));
    }
    t.round(t.master.data(), pool_);
    const std::span<const float> seen = t.is_exact() ? std::span<const float>(t.master) : t.seen;
    t.tensor = ModelTensor(source.spec(), type_named("F32"), std::as_bytes(seen));
    if (q.is_frozen && !t.is_exact()) AlignedVector<float>().swap(t.master);
    if (!q.is_frozen) t.adam = AdamW(t.n(), options_.adam);
    show(name, t);
  }

  // To the student; norms are copied there.
  void show(const std::string& name, const Trained& t) {
    student_.replace_weight(name, t.tensor);
    if (judging_student_) judging_student_->replace_weight(name, t.tensor);
  }

  std::string key(const std::map<std::string, QatTensor>& tensors) const {
    const QatOptions& o = options_;
    std::string all = fmt::format(
        "{} {} {} loss {} rate {} {} {} adam {} {} {} {} {} {} steps {} of {} held {} {} evaluations {} seed {} inputs {} products {}", TSUBU_VERSION,
        o.key, corpus_.hash, static_cast<int>(o.loss), o.rate, o.schedule.warm_up, o.schedule.floor, o.adam.first_decay,
        o.adam.second_decay, o.adam.epsilon, o.adam.weight_decay, o.adam.states_8bit, o.adam.min_8bit, n_steps_, per_step_,
        o.held_out, o.judged_tokens, o.n_evaluations, o.seed, o.activations ? o.activations->name() : "f32",
        o.bf16_products ? kernels().isa : "f32");
    for (const auto& [name, q] : tensors) all += fmt::format(" {} {} {}", name, q.type->name, q.is_frozen);
    return hash_bytes(std::as_bytes(std::span(all)));
  }

  // The window's loss, summed over its tokens; without a sink it is judged. Judging keeps the other one as well, and the float model's own.
  double pass(const std::vector<TokenId>& tokens, double weight, GradientSink* sink, double* cross = nullptr,
              double* float_cross = nullptr) {
    const bool judges = !sink && judging_student_;
    Backward &teacher = judges ? *judging_teacher_ : teacher_, &student = judges ? *judging_student_ : student_;
    const size_t n_vocab = student.n_vocab();
    const bool needs_teacher = options_.loss == TrainingLoss::kDivergence || cross;
    const std::vector<TokenId> targets = next_tokens(tokens);
    const auto text_loss = [&](size_t first, size_t n, const float* logits) {
      double sum = 0;
      for (size_t t = 0; t < n; ++t) {
        const TokenId target = targets[first + t];
        if (target < 0) continue;
        const float* row = logits + t * n_vocab;
        sum += kernels().log_sum_exp(row, n_vocab) - static_cast<double>(row[target]);
      }
      return sum;
    };
    if (needs_teacher) {
      Stopwatch watch;
      base_.resize(tokens.size() * n_vocab);
      teacher.forward(tokens, 0, [&](size_t first, size_t n, float* logits) {
        std::copy_n(logits, n * n_vocab, base_.data() + first * n_vocab);
        if (float_cross) *float_cross += text_loss(first, n, logits);
        return 0.0;
      });
      if (sink) seconds_["float model"] += watch.lap();
    }
    const LogitLoss loss = [&](size_t first, size_t n, float* logits) {
      if (cross) *cross += text_loss(first, n, logits);
      if (options_.loss == TrainingLoss::kDivergence || cross)
        return divergence_loss(std::span(base_).subspan(first * n_vocab, n * n_vocab), static_cast<float>(weight), logits, n_vocab,
                               pool_);
      return cross_entropy(std::span(targets).subspan(first, n), static_cast<float>(weight), logits, n_vocab, pool_);
    };
    return sink ? student.run(tokens, 0, loss, *sink) : student.forward(tokens, 0, loss);
  }

  void one_step(Progress& progress) {
    Stopwatch watch;
    gradients_->clear();
    double sum = 0;
    const double n_tokens = static_cast<double>(per_step_ * corpus_.context);
    for (size_t i = 0; i < per_step_; ++i) {
      throw_if_interrupted();
      sum += pass(corpus_.chunks[order_.at(step_ * per_step_ + i)], 1 / n_tokens, gradients_.get());
      const QatPoint& last = curve_.back();
      progress.advance(corpus_.context, fmt::format("loss {:.4g}, held out {:.4g}", last_loss_, judged_loss(last)));
    }
    last_loss_ = sum / n_tokens;
    if (!std::isfinite(last_loss_))
      fail(ExitCode::kNumeric, "step {}: the loss is not finite: train with a lower --rate", step_ + 1);
    const double passes = watch.lap();
    last_rate_ = options_.rate * options_.schedule.share(step_, n_steps_);
    for (auto& [name, t] : trained_) {
      if (!t.is_trained()) continue;
      const auto found = gradients_->all().find(name);
      if (found == gradients_->all().end()) continue;  // no token came to it: of an expert that was never chosen
      t.adam.step(t.master, found->second, last_rate_ * t.size, step_ + 1, pool_);
    }
    const double optimizer = watch.lap();
    for (auto& [name, t] : trained_) {
      if (!t.is_trained()) continue;
      t.round(t.master.data(), pool_);
      show(name, t);
    }
    seconds_["passes"] += passes;
    seconds_["optimizer"] += optimizer;
    seconds_["encoding"] += watch.lap();
    ++step_;
    loss_sum_ += last_loss_;
    ++n_summed_;
  }

  double judged_loss(const QatPoint& p) const {
    return options_.loss == TrainingLoss::kDivergence ? p.divergence : p.cross_entropy;
  }
  bool is_judged(uint64_t step) const {
    if (step == 0 || step == n_steps_) return true;
    const uint64_t n = std::max<uint32_t>(1, options_.n_evaluations);
    return step * n / n_steps_ != (step - 1) * n / n_steps_;
  }

  void judge() {
    Stopwatch watch;
    QatPoint p;
    p.step = step_;
    p.tokens = step_ * per_step_ * corpus_.context;
    p.rate = last_rate_;
    p.loss = n_summed_ > 0 ? loss_sum_ / static_cast<double>(n_summed_) : 0;
    double float_cross = 0;
    const bool is_first = curve_.empty();
    for (size_t c : windows_.judged)
      p.divergence += pass(corpus_.chunks[c], 1, nullptr, &p.cross_entropy, is_first ? &float_cross : nullptr);
    const double n = static_cast<double>(windows_.judged.size() * corpus_.context);
    const double n_targets = n - static_cast<double>(windows_.judged.size());
    p.divergence /= n;
    p.cross_entropy /= n_targets;
    if (is_first) float_cross_entropy_ = float_cross / n_targets;
    if (!std::isfinite(judged_loss(p)))
      fail(ExitCode::kNumeric, "step {}: the loss on held-out text is not finite: train with a lower --rate", step_);
    curve_.push_back(p);
    loss_sum_ = 0;
    n_summed_ = 0;
    note(fmt::format("step {} of {}: held out: divergence {:.5g}, cross entropy {:.5g} (float {:.5g}){}", step_, n_steps_,
                     p.divergence, p.cross_entropy, float_cross_entropy_,
                     is_first ? "" : fmt::format("; trained on: {:.5g}", p.loss)));
    if (is_first || judged_loss(p) < judged_loss(curve_[best_])) {
      best_ = curve_.size() - 1;
      for (auto& [name, t] : trained_) t.best.assign(t.rows().begin(), t.rows().end());
    }
    seconds_["judging"] += watch.lap();
  }

  void save() {
    if (options_.checkpoint.empty()) return;
    SafetensorsWriter writer(options_.checkpoint);
    Json state{{"key", key_},           {"step", step_},         {"best", best_},
               {"loss_sum", loss_sum_}, {"n_summed", n_summed_}, {"last_loss", last_loss_},
               {"last_rate", last_rate_}, {"float_cross_entropy", float_cross_entropy_}, {"curve", Json::array()}};
    for (const QatPoint& p : curve_) state["curve"].push_back(point_json(p));
    writer.set_metadata("qat", state.dump());
    for (const auto& [name, t] : trained_) {
      writer.declare(kBestPrefix + name, SafeDtype::kU8, {t.best.size()});
      if (!t.is_trained()) continue;
      writer.declare(kMastersPrefix + name, SafeDtype::kF32, {t.n()});
      writer.declare(kStatePrefix + name, SafeDtype::kU8, {t.adam.state_bytes()});
    }
    for (const std::string& entry : writer.begin_data()) {
      const size_t dot = entry.find('.') + 1;
      const Trained& t = trained_.at(entry.substr(dot));
      if (entry.starts_with(kMastersPrefix))
        writer.write(std::as_bytes(std::span(t.master)));
      else if (entry.starts_with(kStatePrefix))
        writer.write(t.adam.save());
      else
        writer.write(t.best);
    }
    writer.commit();
  }

  void restore() {
    std::error_code error;
    if (options_.checkpoint.empty() || !std::filesystem::exists(options_.checkpoint, error)) return;
    const SafetensorsFile file = open_checkpoint(options_.checkpoint);
    const auto found = file.metadata().find("qat");
    if (found == file.metadata().end())
      fail(ExitCode::kBadInput, "{}: expected a checkpoint of tsubu tune --qat", options_.checkpoint);
    const Json state = parse_json(found->second, options_.checkpoint);
    check_checkpoint_key(state.at("key").get<std::string>() == key_, options_.checkpoint);
    const auto bytes_of = [&](const std::string& name, uint64_t n) {
      const SafeTensor* tensor = file.find(name);
      if (!tensor || tensor->data.size() != n)
        fail(ExitCode::kBadInput, "{}: {}: expected {} bytes (remove the file to start anew)", options_.checkpoint, name, n);
      return tensor->data;
    };
    for (auto& [name, t] : trained_) {
      const auto best = bytes_of(kBestPrefix + name, t.rows().size());
      t.best.assign(best.begin(), best.end());
      if (!t.is_trained()) continue;
      const auto master = bytes_of(kMastersPrefix + name, t.n() * sizeof(float));
      std::memcpy(t.master.data(), master.data(), master.size());
      t.adam.load(bytes_of(kStatePrefix + name, t.adam.state_bytes()), options_.checkpoint + ": " + name);
      t.round(t.master.data(), pool_);
      show(name, t);
    }
    step_ = state.at("step").get<uint64_t>();
    best_ = state.at("best").get<size_t>();
    loss_sum_ = state.at("loss_sum").get<double>();
    n_summed_ = state.at("n_summed").get<uint64_t>();
    last_loss_ = state.at("last_loss").get<double>();
    last_rate_ = state.at("last_rate").get<double>();
    float_cross_entropy_ = state.at("float_cross_entropy").get<double>();
    for (const Json& p : state.at("curve")) curve_.push_back(point_of(p));
    if (curve_.empty() || best_ >= curve_.size() || step_ > n_steps_)
      fail(ExitCode::kBadInput, "{}: a damaged checkpoint (remove the file to start anew)", options_.checkpoint);
    note(fmt::format("{}: goes on from step {} of {}", options_.checkpoint, step_, n_steps_));
  }

  const Model& model_;
  const Corpus& corpus_;
  const QatOptions options_;
  ThreadPool& pool_;
  Backward teacher_, student_;
  std::unique_ptr<Backward> judging_teacher_, judging_student_;  // in f32, when training is not
  TextWindows windows_;
  size_t per_step_ = 1;
  uint64_t n_steps_ = 1, step_ = 0, n_summed_ = 0;
  EpochOrder order_;
  std::map<std::string, Trained> trained_;
  std::unique_ptr<TrainedGradients> gradients_;
  AlignedVector<float> base_;
  std::vector<QatPoint> curve_;
  size_t best_ = 0;
  double loss_sum_ = 0, last_loss_ = 0, last_rate_ = 0, float_cross_entropy_ = 0;
  std::map<std::string, double> seconds_;
  std::string key_;
};

Qat::Qat(const Model& model, const std::map<std::string, QatTensor>& tensors, const Corpus& corpus, const QatOptions& options,
         ThreadPool& pool)
    : run_(std::make_unique<Run>(model, tensors, corpus, options, pool)) {}
Qat::~Qat() = default;
QatEstimate Qat::estimate() { return run_->estimate(); }
QatResult Qat::run() { return run_->run(); }

Json to_json(const QatResult& r) {
  Json json{{"steps", r.n_steps},
            {"tokens", r.n_tokens},
            {"weights", r.n_weights},
            {"trained_weights", r.n_trained},
            {"judged_tokens", r.n_judged},
            {"first_step", r.first_step},
            {"seconds", r.seconds},
            {"tokens_per_second", r.tokens_per_second},
            {"peak_bytes", r.peak_bytes},
            {"float_cross_entropy", r.float_cross_entropy},
            {"best", r.best},
            {"curve", Json::array()},
            {"shares", r.shares}};
  for (const QatPoint& p : r.curve) json["curve"].push_back(point_json(p));
  return json;
}

Json to_json(const QatEstimate& e) {
  return {{"seconds", e.seconds},
          {"memory_bytes", e.memory_bytes},
          {"checkpoint_bytes", e.checkpoint_bytes},
          {"steps", e.n_steps},
          {"tokens", e.n_tokens},
          {"weights", e.n_weights}};
}

}  // namespace tsubu
