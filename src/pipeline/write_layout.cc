#include "pipeline/write_layout.h"

#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/half.h"
#include "base/progress.h"
#include "checkpoint/hf_directory.h"
#include "codec/number_format.h"
#include "kernel/kernels.h"
#include "pipeline/code_book.h"
#include "pipeline/fp8_blocks.h"
#include "pipeline/hf_stack.h"
#include "pipeline/hf_tensors.h"
#include "pipeline/hf_writer.h"
#include "pipeline/layout_codes.h"
#include "pipeline/layout_curvatures.h"
#include "pipeline/manifest.h"
#include "pipeline/text_statistics.h"

namespace tsubu {
namespace {

namespace fs = std::filesystem;

constexpr float kE4m3Largest = 448, kE2m1Largest = 6;

const char* dtype_name(const TypeInfo& type) {
  return type.name == "F16" ? "float16" : type.name == "BF16" ? "bfloat16" : "float32";
}

class LayoutWriting {
 public:
  LayoutWriting(const Model& model, const WriteLayoutOptions& options)
      : model_(model), o_(options), pool_(options.n_threads) {
    result_.notes = o_.notes;
    base_ = o_.base.empty() ? model.path() : o_.base;
    std::error_code error;
    if (!fs::is_directory(base_, error))
      fail(ExitCode::kUsage,
           "{}: a GGUF file has no config.json and tokenizer files of Hugging Face: name a directory that has them with "
           "--base DIR",
           base_);
    config_path_ = (fs::path(base_) / "config.json").string();
    config_ = parse_json(read_text_file(config_path_, uint64_t{1} << 26), config_path_);
    if (!config_.is_object()) fail(ExitCode::kBadInput, "{}: expected a JSON object", config_path_);
    tensors_ = hf_tensors(model);
    recipe_.scheme = o_.scheme;
    recipe_.group_size = o_.group_size;
    choose_dtype();
    if (o_.scheme) {
      recipe_.format();  // throws when the group size does not fit
      check_fused(model, o_.choices);
      choose_linears();
    }
  }

  std::map<std::string, SimFormat> formats() const {
    std::map<std::string, SimFormat> found;
    for (const std::string& name : quantized_)
      if (!recipe_of(name).scheme->is_block()) found.emplace(name, recipe_of(name).format());
    return found;
  }

  WriteLayoutResult run() {
    const auto start = std::chrono::steady_clock::now();
    for (const std::string& file : model_.files())
      if (same_file(file, o_.output) || same_file(fs::path(file).parent_path().string(), o_.output))
        fail(ExitCode::kUsage, "{}: output and input are the same (choose another -o)", o_.output);
    HfWriter writer(o_.output);
    writer_ = &writer;
    const bool any_expert = std::any_of(tensors_.begin(), tensors_.end(),
                                        [&](const HfTensor& t) { return t.expert && quantized_.contains(t.gguf_name()); });
    if (any_expert && !o_.corpus.texts.empty() && o_.method.needs_curvature()) {
      curvatures_.open_experts(o_.corpus, o_.expert_memory);
      sort_experts(model_.graph(), tensors_);
    }
    result_.source_bytes = (o_.untransformed ? *o_.untransformed : model_).weight_bytes();
    uint64_t total = 0;
    for (const ModelTensor& t : model_.tensors()) total += t.n_elements();
    Progress progress("write", total, "w");
    for (const HfTensor& item : tensors_) {
      throw_if_interrupted();
      uint64_t n = 0;
      if (item.is_stack) {
        if (item.is_heads() && quantized_.contains(item.gguf_name()))
          quantize(item);
        else
          write_stack(item);
        for (const ModelTensor* t : item.sources) {
          n += t->n_elements();
          t->release_rows(0, t->n_rows());
        }
      } else {
        const ModelTensor t = item.tensor();
        if (quantized_.contains(item.gguf_name()))
          quantize(item);
        else
          copy(t, item.spec);
        t.release_rows(0, t.n_rows());
        n = t.n_elements();
      }
      progress.advance(n, item.gguf_name());
    }
    for (const std::string& note : curvatures_.notes()) result_.notes.push_back(note);
    if (n_searched_experts_ > 0)
      result_.notes.push_back(fmt::format("{} matrices of experts have no Gram matrix: rounded by search", n_searched_experts_));
    const std::vector<std::string> shards = writer.write_shards(o_.shard_bytes, TSUBU_VERSION);
    write_configuration();
    result_.files = shards;
    for (const std::string& name : writer.copy_companions(base_)) result_.files.push_back(name);
    verify();
    std::vector<std::string> written;
    for (const auto& entry : fs::directory_iterator(writer.folder()))
      if (entry.is_regular_file()) written.push_back(entry.path().filename().string());
    write_manifest(written);
    for (const std::string& shard : shards) result_.size_bytes += fs::file_size(fs::path(writer.folder()) / shard);
    uint64_t data_bytes = 0;
    for (const WrittenTensor& t : result_.tensors) {
      data_bytes += t.size_bytes;
      result_.n_weights += checked_elements(t.shape);
    }
    result_.bits_per_weight = 8.0 * static_cast<double>(data_bytes) / static_cast<double>(std::max<uint64_t>(1, result_.n_weights));
    throw_if_interrupted();
    writer.commit();
    progress.finish();
    if (o_.scheme) {
      result_.method = o_.scheme->method;
      result_.scheme = joined([](const LayoutRecipe& r) { return std::string(r.scheme->name); });
      result_.format = joined(format_name);
    } else {
      result_.method = "hf";
    }
    struct rusage usage {};
    getrusage(RUSAGE_SELF, &usage);
    result_.peak_rss_bytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
    result_.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return std::move(result_);
  }

 private:
  static uint64_t checked_elements(const std::vector<uint64_t>& shape) {
    uint64_t n = 1;
    for (uint64_t d : shape) n *= d;
    return n;
  }

  // ---- what becomes what

  const LayoutRecipe& recipe_of(const std::string& name) const {
    const auto own = own_.find(name);
    return own == own_.end() ? recipe_ : own->second;
  }

  static std::string format_name(const LayoutRecipe& r) {
    return r.scheme->is_block() ? "fp8_e4m3:block=128" : r.format().name();
  }

  std::vector<LayoutConfigGroup> groups() const {
    if (recipe_.scheme->is_stacked()) return {{recipe_, {}}};
    std::vector<ChosenLinear> linears;
    for (const HfTensor& t : tensors_)
      if (quantized_.contains(t.gguf_name()))
        linears.push_back({hf_module(t.spec.hf_name), recipe_of(t.gguf_name()), own_.contains(t.gguf_name())});
    return config_groups(linears);
  }

  std::string joined(const std::function<std::string(const LayoutRecipe&)>& text) const {
    std::string all;
    for (const LayoutConfigGroup& g : groups()) {
      if (!all.empty()) all += " + ";
      all += text(g.recipe);
    }
    return all;
  }

  void choose_dtype() {
    std::map<std::string_view, uint64_t> weights;
    for (const ModelTensor& t : model_.tensors())
      if (t.spec().quantizable) weights[float_type_of(t).name] += t.n_elements();
    std::string_view most = "BF16";
    for (const auto& [name, n] : weights)
      if (n > weights[most]) most = name;
    const TypeInfo& type = o_.dtype.empty() ? type_named(most) : type_named(o_.dtype);
    recipe_.model_dtype = dtype_name(type);
    if (o_.scheme && (o_.scheme->method == "gptq" || o_.scheme->method == "awq")) recipe_.model_dtype = "float16";
  }

  // The float type that a tensor's values have: its own, or the least one that a quantized source decodes to.
  const TypeInfo& float_type_of(const ModelTensor& t) const {
    if (!o_.dtype.empty()) return type_named(o_.dtype);
    if (o_.untransformed) {
      const ModelTensor* before = o_.untransformed->find(t.name());
      return float_type_as_stored(before ? *before : o_.untransformed->tensor("token_embd.weight"));  // a head that was tied
    }
    return float_type_as_stored(t);
  }
  static const TypeInfo& float_type_as_stored(const ModelTensor& t) {
    for (std::string_view name : {"F32", "F16", "BF16"})
      if (t.type().name == name) return t.type();
    return type_named("F16");
  }

  void choose_linears() {
    if (recipe_.scheme->is_stacked()) return choose_stacks();
    std::set<std::string> linears;
    const std::string head = head_weight_name(model_);
    for (const Op& op : model_.graph().ops)
      if (is_linear(op) && op.weight != head) linears.insert(op.weight);
    bool any_stack = false;
    for (const HfTensor& t : tensors_) {
      const std::string& name = t.gguf_name();
      any_stack = any_stack || (t.is_stack && !t.is_heads() && linears.contains(name));
      const std::string module = hf_module(t.spec.hf_name);
      if (t.is_heads()) choose_heads(t, module);
      if (t.is_stack) continue;
      if (!linears.contains(name)) {
        if (name == head && name != "token_embd.weight") ignored_.push_back(module);
        continue;
      }
      if (t.spec.transform == HfTransform::kTranspose && o_.scheme->method != "gptq")
        fail(ExitCode::kUnsupported,
             "{}: the linears of architecture \"{}\" are Conv1D layers in transformers, which {} does not quantize (gptq "
             "does)",
             model_.path(), model_.architecture().name(), o_.scheme->method);
      const auto choice = o_.choices.find(name);
      if (!t.spec.quantizable || (choice != o_.choices.end() && !choice->second.scheme)) {  // routers, or as asked for
        ignored_.push_back(module);
        continue;
      }
      quantized_.insert(name);
      if (choice == o_.choices.end()) continue;
      LayoutRecipe& own = own_[name] = recipe_;
      own.scheme = choice->second.scheme;
      own.group_size = choice->second.group_size;
      own.format();
    }
    if (any_stack)
      result_.notes.push_back(fmt::format("the experts stay floats: {} has no place for tensors of all experts (mxfp4 has)", o_.scheme->method));
    if (ignored_.empty()) ignored_.push_back("lm_head");
    for (const LayoutScheme& scheme : layout_schemes()) choose_static_inputs(scheme);
    for (const LinearGroup& group : linear_groups(model_.graph()))
      for (const std::string& name : group.linears) group_of_[name] = group.linears;
    for (const ExpertGroup& group : expert_groups(model_.graph()))
      for (const std::string& name : group.linears) group_of_[name] = group.linears;
  }

  // Keys and values of all heads, one matrix: runtimes take it apart when they load it, and those of AWQ and FP8 in blocks all
  // decode it first. vLLM alone does in compressed-tensors: there it is quantized when asked for.
  void choose_heads(const HfTensor& t, const std::string& module) {
    const std::string& name = t.gguf_name();
    const auto choice = o_.choices.find(name);
    bool takes = choice != o_.choices.end() ? choice->second.scheme != nullptr : o_.scheme->takes_heads();
    LayoutRecipe own = recipe_;
    if (takes && choice != o_.choices.end()) {
      own.scheme = choice->second.scheme;
      own.group_size = choice->second.group_size;
    }
    const uint64_t n = t.sources[1]->n_cols();
    if (takes && !own.scheme->is_block() && own.format().granularity == SimGranularity::kGroup && n % own.format().group != 0) {
      result_.notes.push_back(fmt::format("{} stays as floats: {} inputs are no multiple of the group of {}", module, n, own.format().group));
      takes = false;
    }
    if (!takes) return ignored_.push_back(module);
    quantized_.insert(name);
    if (choice != o_.choices.end()) own_[name] = own;
  }

  // Experts in tensors of their own: nothing else is quantized. The modules that stay are named as gpt-oss names them.
  void choose_stacks() {
    for (const HfTensor& t : tensors_) stacked_ = stacked_ || (t.is_stack && t.spec.shape.size() == 3 && !t.is_heads());
    if (!stacked_)
      fail(ExitCode::kUnsupported,
           "{}: {} holds tensors of all experts, which architecture \"{}\" does not have (--format compressed-tensors --to "
           "MXFP4A16 has the same numbers)",
           model_.path(), o_.scheme->method, model_.architecture().name());
    ignored_ = {"model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"};
  }

  void choose_static_inputs(const LayoutScheme& scheme) {
    if (scheme.activations != LayoutActivations::kFp8Static && scheme.activations != LayoutActivations::kNvfp4) return;
    bool any = false, known = o_.stats != nullptr;
    for (const std::string& name : quantized_)
      if (recipe_of(name).scheme == &scheme) {
        any = true;
        known = known && has_gram(name);
      }
    if (!any) return;
    if (recipe_.scheme == &scheme) recipe_.static_inputs = known;
    for (auto& [name, own] : own_)
      if (own.scheme == &scheme) own.static_inputs = known;
    if (known) return;
    result_.notes.push_back(fmt::format(
        "{}: the ranges of activations are not known (give --text, or --stats made with --gram): {}", scheme.name,
        scheme.activations == LayoutActivations::kNvfp4 ? "activations are left as floats (as NVFP4A16)"
                                                        : "activations are scaled by token at run time"));
  }

  bool has_gram(const std::string& name) const { return o_.stats && o_.stats->has_gram(name); }

  // ---- reading

  std::vector<float> read(const ModelTensor& t, const TensorSpec& spec) { return read_hf_rows(t, spec, pool_); }
  // A matrix that is quantized.
  std::vector<float> read(const HfTensor& item) {
    return item.is_heads() ? read_heads(item, pool_) : read(item.tensor(), item.spec);
  }

  // ---- float tensors

  void copy(const ModelTensor& t, const TensorSpec& spec) {
    const TypeInfo& type = float_type_of(t);
    WrittenTensor written{spec.hf_name, "float", std::string(type.name), t.quantized() ? "decode" : "copy", spec.shape, 0, 0, -1};
    std::vector<uint64_t> shape = spec.shape;
    std::vector<float> w = read(t, spec);
    if (spec.transform == HfTransform::kTranspose) {
      std::reverse(shape.begin(), shape.end());
      std::vector<float> turned(w.size());
      for (uint64_t r = 0; r < t.n_rows(); ++r)
        for (uint64_t c = 0; c < t.n_cols(); ++c) turned[c * t.n_rows() + r] = w[r * t.n_cols() + c];
      w = std::move(turned);
    }
    std::vector<std::byte> bytes(w.size() * type.block_bytes);
    kernels().encode[type.index](w.data(), nullptr, bytes.data(), w.size());
    written.size_bytes = bytes.size();
    writer_->add(spec.hf_name, *find_safe_dtype(type.name), std::move(shape), bytes);
    result_.tensors.push_back(std::move(written));
  }

  // ---- tensors of all experts

  void write_stack(const HfTensor& item) {
    const bool packs = stacked_ && item.spec.shape.size() == 3 && !item.is_heads();
    const TypeInfo& type = float_type_of(*item.sources.front());
    const StackWritten w = packs ? write_mxfp4_stack(item, o_.stats, *writer_, pool_) : write_float_stack(item, type, *writer_, pool_);
    WrittenTensor written{item.spec.hf_name, packs ? "mxfp4" : "float", packs ? "mxfp4" : std::string(type.name), w.method, w.shape, w.size_bytes, 0, -1};
    result_.tensors.push_back(std::move(written));
  }

  // ---- quantized ones

  void quantize(const HfTensor& item) {
    const TensorSpec& spec = item.spec;
    const LayoutRecipe& recipe = recipe_of(item.gguf_name());
    WrittenTensor written{spec.hf_name, std::string(recipe.scheme->layout), "", "", spec.shape, 0, 0, -1};
    if (item.is_heads()) written.shape = {spec.shape[0] * spec.head_rows, item.sources[1]->n_cols()};
    std::optional<LayoutMatrix> q = o_.keep_codes && !item.is_heads() ? carried_codes(item.tensor(), recipe) : std::nullopt;
    if (q) {
      written.method = "codes";
    } else {
      q = recipe.scheme->is_block() ? round_blocks(item, recipe, written) : round(item, recipe, written);
    }
    const std::string module = hf_module(spec.hf_name);
    std::vector<StoredPart> parts;
    try {
      parts = layout_named(recipe.scheme->layout).store(*q);
    } catch (const Error& e) {
      fail(e.code(), "tensor {}: {}", spec.hf_name, e.what());
    }
    for (const StoredPart& part : parts) {
      writer_->add(module + part.suffix, part.dtype, part.shape, part.bytes);
      written.size_bytes += part.bytes.size();
    }
    if (recipe.static_inputs) {
      float absmax = 0;
      for (float v : o_.stats->max_abs(item.gguf_name())) absmax = std::max(absmax, v);
      const bool nv = recipe.scheme->activations == LayoutActivations::kNvfp4;
      const std::vector<float> scale = {nv ? kE4m3Largest * kE2m1Largest / std::max(absmax, 1e-12f)
                                           : std::max(absmax, 1e-12f) / kE4m3Largest};
      const StoredPart part = float_part("", nv ? SafeDtype::kF32 : recipe.scale_type(), {1}, scale);
      writer_->add(module + (nv ? ".input_global_scale" : ".input_scale"), part.dtype, part.shape, part.bytes);
    }
    result_.tensors.push_back(std::move(written));
  }

  LayoutMatrix round(const HfTensor& item, const LayoutRecipe& recipe, WrittenTensor& written) {
    const TensorSpec& spec = item.spec;
    const std::string& name = item.gguf_name();
    const SimFormat format = recipe.format();
    const uint64_t rows = written.shape[0], n = written.shape[1];
    // Readers of these layouts refuse a shorter last group.
    if (format.granularity == SimGranularity::kGroup && n % format.group != 0) {
      const bool fixed = format.family == "nvfp4" || format.family == "mxfp4";
      fail(ExitCode::kUnsupported, "tensor {}: {} inputs are no multiple of {}'s group of {}{}", spec.hf_name, n,
           recipe.scheme->name, format.group,
           fixed                                         ? ""
           : recipe.scheme->method == "compressed-tensors" ? ": choose another --group-size, for this one with --tensor-type 'PATTERN=SCHEME:GROUP'"
                                                           : ": choose another --group-size");
    }
    const std::vector<float> w = read(item);
    std::vector<float> importance;  // that of heads is of other inputs
    if (o_.stats && o_.stats->has(name) && !item.is_heads()) importance = o_.stats->mean_squares(name);
    if (item.expert && importance.size() == item.sources.front()->n_matrices() * n)
      importance = {importance.begin() + static_cast<std::ptrdiff_t>(*item.expert * n),
                    importance.begin() + static_cast<std::ptrdiff_t>((*item.expert + 1) * n)};
    if (!importance.empty() && importance.size() != n)
      fail(ExitCode::kBadInput,
           "{}: {}: expected {} columns as in the model, found {} (were these statistics made with another model?)",
           o_.stats_path, name, n, importance.size());
    SimMethod method = o_.method;
    const Curvature* curvature = curvatures_.find(item, method.needs_curvature());
    if (method.needs_curvature() && !curvature) {
      method = {SimStart::kSearch, 0};
      if (!item.expert) result_.notes.push_back(fmt::format("{}: no Gram matrix of its input: rounded by search", spec.hf_name));
      else ++n_searched_experts_;
    }
    std::vector<float> values(w.size());
    SimStored stored;
    sim_round(w.data(), rows, n, format, method, importance, curvature, values.data(), pool_, &stored,
              format.tensor_scale ? shared_absmax(item, w) : 0);
    if (curvature) {
      const std::vector<float> none(w.size());
      const double form = sim_form_error(w.data(), values.data(), rows, *curvature, pool_);
      const double reference = sim_form_error(w.data(), none.data(), rows, *curvature, pool_);
      if (reference > 0) written.rel_output = std::sqrt(std::max(0.0, form) / reference);
    }
    written.method = method_words(method);

    LayoutMatrix q = empty_matrix(rows, n, recipe);
    q.code_bits = format.code_bits;
    q.group_columns = format.group_columns(n);
    q.kind = format.family == "bnb_fp4" ? "fp4" : format.family;
    q.nested = stored.nested;
    q.tensor_scale = stored.tensor_scale;
    const CodeBook book(format);
    q.codes.resize(w.size());
    pool_.parallel_for(rows, [&](size_t row, int) {
      for (uint64_t k = 0; k < n; ++k) q.codes[row * n + k] = book.code(stored.levels[row * n + k]);
    });
    const bool one = format.granularity == SimGranularity::kTensor;
    q.row_step = one ? rows : 1;
    if (one) stored.groups.resize(1);
    for (const SimGroup& g : stored.groups) {
      q.scales.push_back(g.scale == 0 ? scale_of_zeros(format, stored.tensor_scale) : g.scale);
      if (format.zero != SimZero::kNone) q.zeros.push_back(book.zero(g.zero));
    }
    return q;
  }

  // Blocks of zeros have a scale, too: runtimes that divide by it must not find 0.
  static float scale_of_zeros(const SimFormat& format, float tensor_scale) {
    return format.family == "nvfp4" && tensor_scale > 0 ? tensor_scale : 1;
  }

  // The largest magnitude of all linears that a runtime fuses with this one: those that read the same value.
  float shared_absmax(const HfTensor& item, const std::vector<float>& w) {
    const std::string& name = item.gguf_name();
    const auto group = group_of_.find(name);
    std::string key = group == group_of_.end() || group->second.empty() ? name : group->second.front();
    if (item.expert) key += fmt::format("/{}", *item.expert);
    const auto known = absmax_of_.find(key);
    if (known != absmax_of_.end()) return known->second;
    float absmax = 0;
    for (float v : w) absmax = std::max(absmax, std::fabs(v));
    for (const HfTensor& other : tensors_) {
      if (group == group_of_.end() || other.is_stack || other.expert != item.expert || other.gguf_name() == name) continue;
      if (!quantized_.contains(other.gguf_name()) ||
          std::find(group->second.begin(), group->second.end(), other.gguf_name()) == group->second.end())
        continue;
      for (float v : read(other.tensor(), other.spec)) absmax = std::max(absmax, std::fabs(v));
    }
    return absmax_of_[key] = absmax;
  }

  LayoutMatrix round_blocks(const HfTensor& item, const LayoutRecipe& recipe, WrittenTensor& written) {
    LayoutMatrix q = empty_matrix(written.shape[0], written.shape[1], recipe);
    round_fp8_blocks(read(item), q, pool_);
    written.method = "nearest";
    return q;
  }

  // ---- what comes along

  void write_configuration() {
    for (const char* key : {"quantization_config", "compression_config"}) config_.erase(key);
    const char* key = config_.contains("dtype") ? "dtype" : "torch_dtype";
    if (config_.contains(key) && config_[key] != recipe_.model_dtype && !o_.dtype.empty())
      result_.notes.push_back(fmt::format("config.json: {} is now {}", key, recipe_.model_dtype));
    config_[key] = recipe_.model_dtype;
    if (o_.untransformed && o_.untransformed->hparams().tied_embeddings && !model_.hparams().tied_embeddings) {
      config_["tie_word_embeddings"] = false;
      result_.notes.push_back("config.json: tie_word_embeddings is now false: the transform gave the head a matrix of its own");
    }
    if (o_.scheme) {
      const Json quantization = quantization_config(groups(), ignored_);
      config_["quantization_config"] = quantization;
      if (o_.scheme->method == "gptq") writer_->write_json("quantize_config.json", quantization);
    }
    writer_->write_json("config.json", config_);
  }

  // Opens what was written and compares its values with the model's.
  void verify() {
    const HfDirectory written = HfDirectory::open(writer_->folder());
    std::map<std::string_view, const HfTensor*> source_of;
    for (const HfTensor& t : tensors_) source_of[t.spec.hf_name] = &t;
    for (WrittenTensor& t : result_.tensors) {
      if (t.layout == "float") continue;
      const HfTensor& source = *source_of.at(t.name);
      const bool is_stack = source.is_stack && !source.is_heads();
      const QuantizedModule* module = written.quantized.find(is_stack ? t.name : hf_module(t.name));
      std::vector<uint64_t> shape = t.shape;
      if (is_stack) shape = {t.shape[0] * t.shape[1], t.shape[2]};
      if (!module || module->layout->name != t.layout || std::vector{module->matrix->n_rows(), module->matrix->n_cols()} != shape)
        fail(ExitCode::kNumeric, "{}: {} was written as {} and reads as {}: this is a bug of tsubu", writer_->folder(),
             t.name, t.layout, module ? module->layout->name : "nothing");
      t.kind = module->matrix->kind();
      if (is_stack) {
        t.rel_rmse = stack_error(source, *module->matrix, pool_);
        continue;
      }
      t.rel_rmse = relative_error(read(source), *module->matrix, pool_);
      if (!(t.rel_rmse < 1.5))
        fail(ExitCode::kNumeric, "{}: {} was written and reads with a relative error of {}: this is a bug of tsubu",
             writer_->folder(), t.name, t.rel_rmse);
    }
  }

  std::vector<InputFile> input_files() const {
    std::vector<InputFile> files = model_inputs(model_);
    for (const CorpusText& text : o_.corpus.texts) files.push_back({"text", text.path, 0, ""});
    if (o_.corpus.texts.empty() && !o_.stats_path.empty()) files.push_back({"statistics", o_.stats_path, 0, ""});
    return files;
  }

  // files: all that were written, by name.
  void write_manifest(std::vector<std::string> files) {
    std::sort(files.begin(), files.end());
    Json manifest = manifest_json(o_.command, o_.given_options, fs::path(model_.path()).filename().string(), inputs_.wait(), writer_->folder(), files);
    manifest["source_layout"] = model_.layout();
    manifest["method"] = o_.scheme ? o_.scheme->method : "hf";
    if (o_.scheme) {
      manifest["scheme"] = joined([](const LayoutRecipe& r) { return std::string(r.scheme->name); });
      manifest["format"] = joined(format_name);
      if (!o_.choices.empty()) manifest["choices"] = to_json(o_.choices);
    }
    if (!o_.transform.is_null()) {
      manifest["transform"] = o_.transform;
      manifest["transforms"] = o_.transform_reports;
    }
    for (const WrittenTensor& t : result_.tensors) {
      Json item{{"name", t.name}, {"shape", t.shape}, {"type", t.kind}, {"method", t.method}, {"size_bytes", t.size_bytes}};
      if (t.layout != "float") item["rel_rmse"] = t.rel_rmse;
      manifest["tensors"].push_back(std::move(item));
    }
    if (o_.write_manifest) writer_->write_json(kDirectoryManifest, manifest);
    result_.manifest = std::move(manifest);
  }

  const Model& model_;
  const WriteLayoutOptions& o_;
  ThreadPool pool_;
  std::string base_, config_path_;
  Json config_;
  LayoutRecipe recipe_;                      // of linears without one of their own
  std::map<std::string, LayoutRecipe> own_;  // by GGUF name
  std::vector<HfTensor> tensors_;
  bool stacked_ = false;
  size_t n_searched_experts_ = 0;
  std::set<std::string> quantized_;          // GGUF names
  std::vector<std::string> ignored_;         // modules
  std::map<std::string, std::vector<std::string>> group_of_;
  std::map<std::string, float> absmax_of_;
  LayoutCurvatures curvatures_{model_, o_.stats, o_.damping, pool_};
  HfWriter* writer_ = nullptr;
  InputDigests inputs_{input_files()};
  WriteLayoutResult result_;
};

}  // namespace

std::map<std::string, SimFormat> layout_formats(const Model& model, const WriteLayoutOptions& options) {
  return LayoutWriting(model, options).formats();
}

WriteLayoutResult write_layout(const Model& model, const WriteLayoutOptions& given) {
  if (given.corpus.texts.empty() || !given.scheme) return LayoutWriting(model, given).run();
  WriteLayoutOptions options = given;
  TextStatistics statistics(model, given.corpus, given.output, given.transform, false, given.n_threads);
  options.stats = &statistics.statistics();
  options.stats_path = statistics.path();
  WriteLayoutResult result = LayoutWriting(model, options).run();
  statistics.remove();
  return result;
}

}  // namespace tsubu
