#include "tune/scale_descent.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "base/progress.h"
#include "codec/grid.h"
#include "container/safetensors.h"
#include "engine/linear.h"
#include "gradient/backward.h"
#include "gradient/loss.h"
#include "kernel/kernels.h"
#include "tune/checkpoint.h"
#include "tune/scale_fields.h"
#include "tune/schedule.h"
#include "tune/windows.h"

namespace tsubu {
namespace {

constexpr float kFirstDecay = 0.9f, kSecondDecay = 0.95f, kTiny = 1e-12f;  // Adam's
constexpr const char* kMetadata = "scale_descent";
constexpr std::chrono::minutes kSaveEvery{5};
constexpr uint64_t kPlaceBytes = 17;                                        // of a weight whose code moves

// Numbers in a row of a tensor that move: start · (1 + s).
struct Parameters {
  std::vector<float> start, s, gradient, first, second;

  explicit Parameters(std::vector<float> from = {}) : start(std::move(from)) {
    for (auto* v : {&s, &gradient, &first, &second}) v->assign(start.size(), 0.0f);
  }
  float value(size_t i) const { return start[i] * (1 + s[i]); }

  // One step of Adam, number `step` from 1; the gradient of the values becomes that of s, and zero afterwards.
  void move(float rate, int step) {
    const float one = 1 - std::pow(kFirstDecay, static_cast<float>(step));
    const float two = 1 - std::pow(kSecondDecay, static_cast<float>(step));
    for (size_t i = 0; i < s.size(); ++i) {
      const float g = gradient[i] * start[i];
      first[i] = kFirstDecay * first[i] + (1 - kFirstDecay) * g;
      second[i] = kSecondDecay * second[i] + (1 - kSecondDecay) * g * g;
      s[i] -= rate * (first[i] / one) / (std::sqrt(second[i] / two) + kTiny);
      gradient[i] = 0;
    }
  }
};

// The place of each weight among the levels of its grid: the code it started with + u; the code is the nearest.
struct Places {
  std::vector<uint8_t> start;
  std::vector<float> u, gradient, first, second;  // the gradient is that of the weights

  // Writes the codes of block b.
  void show(const GridAccess& grid, size_t b, std::byte* bytes) const {
    GridBlock block;
    grid.unpack(bytes, block);
    for (int i = 0; i < grid.spec.block_len; ++i) {
      const size_t at = b * static_cast<size_t>(grid.spec.block_len) + static_cast<size_t>(i);
      const float place = std::round(static_cast<float>(start[at]) + u[at]);
      block.codes[i] = static_cast<uint8_t>(std::clamp(place, 0.0f, static_cast<float>(grid.spec.n_levels - 1)));
    }
    grid.pack(block, bytes);
  }

  // Moves the places of block b by one step.
  void move(const GridAccess& grid, size_t b, const std::byte* bytes, float rate, float one, float two) {
    GridBlock block;
    grid.unpack(bytes, block);
    const GridSpec& spec = grid.spec;
    const float gap = (spec.levels[spec.n_levels - 1] - spec.levels[0]) / static_cast<float>(spec.n_levels - 1);
    for (int i = 0; i < spec.block_len; ++i) {
      const size_t at = b * static_cast<size_t>(spec.block_len) + static_cast<size_t>(i);
      const float cell = block.d.value() * static_cast<float>(block.scale[i / spec.sub_len]) * gap, g = gradient[at] * cell;
      gradient[at] = 0;
      first[at] = kFirstDecay * first[at] + (1 - kFirstDecay) * g;
      second[at] = kSecondDecay * second[at] + (1 - kSecondDecay) * g * g;
      u[at] -= rate * (first[at] / one) / (std::sqrt(second[at] / two) + kTiny);
    }
  }
};

// A matrix of blocks whose scales move; parameters block by block, field by field.
struct Blocks {
  const TypeInfo* type = nullptr;
  std::span<const uint32_t> fields;
  std::vector<std::byte> bytes;
  ModelTensor tensor;
  Parameters p;
  size_t n_cols = 0;
  Places places;  // when codes move

  std::byte* field(size_t i) { return bytes.data() + i / fields.size() * type->block_bytes + fields[i % fields.size()]; }
  void store() {
    for (size_t i = 0; i < p.s.size(); ++i) {
      const Half half = Half::of(p.value(i));
      std::memcpy(field(i), half.bytes, sizeof half.bytes);
    }
  }
};

// A norm's gains.
struct Gains {
  std::vector<float> values;
  ModelTensor tensor;
  Parameters p;
};

class ScaleDescent : public GradientSink {
 public:
  ScaleDescent(const Model& model, const std::map<std::string, EncodedTensor>& encoded, const Corpus& corpus,
               const ScaleDescentOptions& options, ThreadPool& pool)
      : model_(model),
        corpus_(corpus),
        options_(options),
        pool_(pool),
        teacher_(options.teacher ? *options.teacher : model, pool),
        student_(model, pool) {
    std::map<std::string, bool> used;  // by an operation whose parameters move
    for (const Op& op : model.graph().ops)
      if (op.kind == OpKind::kLinear || op.kind == OpKind::kRmsNorm || op.kind == OpKind::kLayerNorm)
        if (!op.weight.empty()) used[op.weight] = op.kind == OpKind::kLinear;
    for (const Op& op : model.graph().ops)  // of a table that is the head as well, rows seldom looked up say little
      if (op.kind == OpKind::kEmbed) used.erase(op.weight);
    uint64_t n_weights = 0;
    for (const auto& [name, e] : encoded)
      if (used.contains(name) && e.type->grid) n_weights += model.tensor(name).n_elements();
    const bool moves_codes = options.code_rate > 0 && n_weights * kPlaceBytes <= options.code_memory;
    for (const auto& [name, e] : encoded) {
      const ModelTensor& source = model.tensor(name);
      Blocks& b = blocks_[name];
      b.type = e.type;
      b.bytes.assign(e.bytes.begin(), e.bytes.end());
      b.tensor = ModelTensor(source.spec(), *e.type, b.bytes);
      b.n_cols = source.n_cols();
      student_.replace_weight(name, b.tensor);
      if (!used.contains(name)) continue;
      b.fields = scale_fields(*e.type);
      std::vector<float> start(b.bytes.size() / e.type->block_bytes * b.fields.size());
      for (size_t i = 0; i < start.size(); ++i) {
        Half half;
        std::memcpy(half.bytes, b.field(i), sizeof half.bytes);
        start[i] = half.value();
      }
      b.p = Parameters(std::move(start));
      if (!moves_codes || !e.type->grid) continue;
      for (auto* v : {&b.places.u, &b.places.gradient, &b.places.first, &b.places.second})
        v->assign(source.n_elements(), 0.0f);
      for (size_t at = 0; at < b.bytes.size(); at += e.type->block_bytes) {
        GridBlock block;
        e.type->grid->unpack(b.bytes.data() + at, block);
        b.places.start.insert(b.places.start.end(), block.codes, block.codes + e.type->block_len);
      }
    }
    for (const auto& [name, is_linear] : used) {
      if (!options.gains || is_linear || encoded.contains(name)) continue;
      const ModelTensor& source = model.tensor(name);
      Gains& g = gains_[name];
      g.values = read_vector(source);
      g.tensor = ModelTensor(source.spec(), type_named("F32"), std::as_bytes(std::span(g.values)));
      g.p = Parameters(g.values);
      student_.replace_weight(name, g.tensor);
    }
  }

  ScaleDescentResult run() {
    ScaleDescentResult result;
    const auto [learned, judged] =
        split_windows(corpus_.chunks.size(), corpus_.context, options_.held_out, options_.max_tokens, options_.judged_tokens);
    if (learned.empty() || judged.empty()) return result;
    for (const auto& [name, b] : blocks_) {
      result.n_parameters += b.p.s.size();
      result.n_codes += b.places.u.size();
    }
    for (const auto& [name, g] : gains_) result.n_parameters += g.p.s.size();
    result.n_judged = judged.size() * corpus_.context;
    const size_t per_step = std::max<size_t>(1, options_.tokens_per_step / corpus_.context);
    const size_t n_steps = (learned.size() * static_cast<size_t>(options_.epochs) + per_step - 1) / per_step;
    key_ = fmt::format("{} | {} {} {} {} {} {} {} {} {} {}", options_.checkpoint_key, corpus_.hash, options_.epochs, options_.rate,
                       options_.code_rate, result.n_codes, options_.tokens_per_step, options_.max_tokens, options_.held_out,
                       options_.judged_tokens, options_.gains);
    result.first_step = restore(result.before, n_steps);
    if (result.first_step == 0) result.before = judge(judged);
    Progress progress("tune scales", (n_steps - result.first_step) * per_step * corpus_.context, "tokens");
    EpochOrder order(learned, 0);
    auto saved = std::chrono::steady_clock::now();
    for (size_t step = result.first_step; step < n_steps; ++step) {
      keeping(step, result.before, [&] {
        for (size_t i = 0; i < per_step; ++i) {
          throw_if_interrupted();
          divergence(corpus_.chunks[order.at(step * per_step + i)], this);
          progress.advance(corpus_.context);
        }
      });
      move(static_cast<int>(step + 1), n_steps);
      if (std::chrono::steady_clock::now() - saved < kSaveEvery) continue;
      save(step + 1, result.before);
      saved = std::chrono::steady_clock::now();
    }
    progress.finish();
    result.n_steps = n_steps;
    keeping(n_steps, result.before, [&] { result.after = judge(judged); });
    if (!(result.after < result.before)) return result;
    result.seen = judge({learned.begin(), learned.begin() + static_cast<std::ptrdiff_t>(std::min(learned.size(), judged.size()))});
    for (auto& [name, b] : blocks_)
      if (!b.p.s.empty()) result.tensors[name] = std::move(b.bytes);
    for (const auto& [name, g] : gains_) {
      const auto bytes = std::as_bytes(std::span(g.values));
      result.tensors[name].assign(bytes.begin(), bytes.end());
    }
    return result;
  }

  void on_linear(const Op& op, const float* x, const float* g, size_t n_tokens, size_t n_cols, size_t n_rows) override {
    const auto found = blocks_.find(op.weight);
    if (found == blocks_.end() || found->second.p.s.empty()) return;
    Blocks& b = found->second;
    const size_t per_row = n_cols / b.type->block_len, row_bytes = per_row * b.type->block_bytes, n = b.fields.size();
    linears_.weight_rows(
        x, g, n_tokens, n_cols, n_rows,
        [&](size_t first, size_t count, const float* product) {
          if (!b.places.u.empty()) {
            float* sum = b.places.gradient.data() + first * n_cols;
            kernels().add(sum, product, sum, count * n_cols);
          }
          std::vector<std::byte> unit(row_bytes);
          std::vector<float> values(n_cols);
          const Half one = Half::of(1), zero = Half::of(0);
          for (size_t r = 0; r < count; ++r)
            for (size_t f = 0; f < n; ++f) {
              // The weights for one field at 1 and the others at 0: their derivative by that field.
              std::copy_n(b.bytes.data() + (first + r) * row_bytes, row_bytes, unit.data());
              for (size_t k = 0; k < per_row; ++k)
                for (size_t other = 0; other < n; ++other)
                  std::memcpy(unit.data() + k * b.type->block_bytes + b.fields[other], (other == f ? one : zero).bytes, 2);
              kernels().decode[b.type->index](unit.data(), values.data(), n_cols);
              for (size_t k = 0; k < per_row; ++k)
                b.p.gradient[((first + r) * per_row + k) * n + f] +=
                    kernels().dot(values.data() + k * b.type->block_len, product + r * n_cols + k * b.type->block_len,
                                  b.type->block_len);
            }
        },
        pool_);
  }
  bool wants_vectors() const override { return true; }
  void on_vectors(const Op& op, std::span<const float> weight, std::span<const float>) override {
    const auto found = gains_.find(op.weight);
    if (found == gains_.end()) return;
    kernels().add(found->second.p.gradient.data(), weight.data(), found->second.p.gradient.data(), weight.size());
  }

 private:
  // Summed over the window's tokens.
  double divergence(const std::vector<TokenId>& tokens, GradientSink* sink) {
    const size_t n_vocab = teacher_.n_vocab();
    base_.resize(tokens.size() * n_vocab);
    teacher_.forward(tokens, 0, [&](size_t first, size_t n, float* logits) {
      std::copy_n(logits, n * n_vocab, base_.data() + first * n_vocab);
      return 0.0;
    });
    const LogitLoss loss = [&](size_t first, size_t n, float* logits) {
      return divergence_loss(std::span(base_).subspan(first * n_vocab, n * n_vocab), 1, logits, n_vocab, pool_);
    };
    return sink ? student_.run(tokens, 0, loss, *sink) : student_.forward(tokens, 0, loss);
  }

  double judge(const std::vector<size_t>& judged) {
    double sum = 0;
    for (size_t c : judged) sum += divergence(corpus_.chunks[c], nullptr);
    return sum / static_cast<double>(judged.size() * corpus_.context);
  }

  // f(name, floats) for all that steps change.
  template <class Fn>
  void each_state(Fn f) {
    const auto of = [&](const std::string& name, Parameters& p) {
      f("s." + name, p.s);
      f("s_first." + name, p.first);
      f("s_second." + name, p.second);
    };
    for (auto& [name, b] : blocks_) {
      if (b.p.s.empty()) continue;
      of(name, b.p);
      if (b.places.u.empty()) continue;
      f("u." + name, b.places.u);
      f("u_first." + name, b.places.first);
      f("u_second." + name, b.places.second);
    }
    for (auto& [name, g] : gains_) of(name, g.p);
  }

  // f, and the steps before it in the checkpoint when it is interrupted; what was summed up of a step by then is lost.
  template <class Fn>
  void keeping(size_t n_done, double before, Fn f) {
    try {
      f();
    } catch (const Error& e) {
      if (e.code() == ExitCode::kInterrupted && n_done > 0) save(n_done, before);
      throw;
    }
  }

  // Where it cannot be written the run goes on without: nothing but time hangs on it.
  void save(size_t n_done, double before) {
    if (options_.checkpoint.empty()) return;
    try {
      write_checkpoint(n_done, before);
    } catch (const Error& e) {
      if (e.code() != ExitCode::kIo) throw;
      note(fmt::format("{}: steps of tuning are not kept: {}", options_.checkpoint, e.what()));
    }
  }

  void write_checkpoint(size_t n_done, double before) {
    SafetensorsWriter writer(options_.checkpoint);
    writer.set_metadata(kMetadata, Json{{"key", key_}, {"steps", n_done}, {"before", before}}.dump());
    std::map<std::string, const std::vector<float>*> states;
    each_state([&](const std::string& name, std::vector<float>& values) {
      states[name] = &values;
      writer.declare(name, SafeDtype::kF32, {values.size()});
    });
    for (const std::string& name : writer.begin_data()) writer.write(std::as_bytes(std::span(*states.at(name))));
    writer.commit();
  }

  // Steps that the checkpoint holds; 0 without one, or when it is another run's.
  size_t restore(double& before, size_t n_steps) {
    std::error_code error;
    if (options_.checkpoint.empty() || !std::filesystem::exists(options_.checkpoint, error)) return 0;
    const SafetensorsFile file = open_checkpoint(options_.checkpoint);
    const auto found = file.metadata().find(kMetadata);
    if (found == file.metadata().end()) return 0;
    const Json state = parse_json(found->second, options_.checkpoint);
    if (state.value("key", "") != key_) return 0;
    const auto n_done = state.at("steps").get<size_t>();
    bool whole = n_done > 0 && n_done <= n_steps;
    each_state([&](const std::string& name, std::vector<float>& values) {
      const SafeTensor* tensor = file.find(name);
      whole = whole && tensor && tensor->data.size() == values.size() * sizeof(float);
    });
    if (!whole) fail(ExitCode::kBadInput, "{}: a damaged checkpoint (remove the file to start anew)", options_.checkpoint);
    each_state([&](const std::string& name, std::vector<float>& values) {
      std::memcpy(values.data(), file.find(name)->data.data(), values.size() * sizeof(float));
    });
    for (auto& [name, b] : blocks_) {
      if (b.p.s.empty()) continue;
      if (!b.places.u.empty())
        for (size_t i = 0; i < b.bytes.size() / b.type->block_bytes; ++i)
          b.places.show(*b.type->grid, i, b.bytes.data() + i * b.type->block_bytes);
      b.store();
    }
    for (auto& [name, g] : gains_) show(name, g);
    before = state.at("before").get<double>();
    note(fmt::format("{}: tuning goes on from step {} of {}", options_.checkpoint, n_done, n_steps));
    return n_done;
  }

  void show(const std::string& name, Gains& g) {
    for (size_t i = 0; i < g.values.size(); ++i) g.values[i] = g.p.value(i);
    student_.replace_weight(name, g.tensor);
  }

  void move(int step, size_t n_steps) {
    const double share = RateSchedule{}.share(static_cast<uint64_t>(step - 1), n_steps);
    const auto rate = static_cast<float>(options_.rate * share);
    for (auto& [name, b] : blocks_) {
      if (b.p.s.empty()) continue;
      if (!b.places.u.empty()) move_codes(b, static_cast<float>(options_.code_rate * share), step);
      b.p.move(rate, step);
      b.store();
    }
    for (auto& [name, g] : gains_) {
      g.p.move(rate, step);
      show(name, g);
    }
  }

  void move_codes(Blocks& b, float rate, int step) {
    constexpr size_t kBlocks = 64;  // of one item
    const float one = 1 - std::pow(kFirstDecay, static_cast<float>(step));
    const float two = 1 - std::pow(kSecondDecay, static_cast<float>(step));
    const size_t bytes = b.type->block_bytes, n_blocks = b.bytes.size() / bytes;
    pool_.parallel_for((n_blocks + kBlocks - 1) / kBlocks, [&](size_t item, int) {
      for (size_t i = item * kBlocks; i < std::min(n_blocks, (item + 1) * kBlocks); ++i) {
        b.places.move(*b.type->grid, i, b.bytes.data() + i * bytes, rate, one, two);
        b.places.show(*b.type->grid, i, b.bytes.data() + i * bytes);
      }
    });
  }

  const Model& model_;
  const Corpus& corpus_;
  const ScaleDescentOptions& options_;
  ThreadPool& pool_;
  Backward teacher_, student_;
  std::map<std::string, Blocks> blocks_;
  std::map<std::string, Gains> gains_;
  LinearGradient linears_;
  AlignedVector<float> base_;
  std::string key_;
};

}  // namespace

ScaleDescentResult tune_scales(const Model& model, const std::map<std::string, EncodedTensor>& encoded, const Corpus& corpus,
                               const ScaleDescentOptions& options, ThreadPool& pool) {
  return ScaleDescent(model, encoded, corpus, options, pool).run();
}

double scale_descent_products(const Model& model, const Corpus& corpus, const ScaleDescentOptions& options) {
  constexpr double kPasses = 5;  // the teacher, the student twice, the gradients of inputs and of weights
  double weights = 0;
  for (const Op& op : model.graph().ops)
    if (op.kind == OpKind::kLinear) weights += static_cast<double>(model.tensor(op.weight).n_elements());
  const uint64_t learned = options.max_tokens == 0 ? corpus.n_tokens() : std::min(corpus.n_tokens(), options.max_tokens);
  const double tokens = static_cast<double>(learned) * options.epochs;
  return weights * (tokens * kPasses + 4 * static_cast<double>(std::min(corpus.n_tokens(), options.judged_tokens)));
}

}  // namespace tsubu
