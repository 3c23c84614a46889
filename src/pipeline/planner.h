// Which type each tensor of a model gets under a size, or for a divergence: what a unit of error in each tensor costs
// (lens/sensitivity.h; by gradients: lens/gradient_sensitivity.h), the error that every candidate type really makes there, and
// the exact allocation between them.
//   predicted KLD = g(Σ c),  c = α e or what measuring makes of it,  e = Q(Ŵ - W) / Q₀
// Q: Σ over sampled rows of δ H δᵀ, H the damped mean Gram matrix of the tensor's input on the text, δ the error of a row
// after the rounding that will follow (search, or error feedback against the same H); Q₀ = Σ‖w‖² tr H / n, what the
// probe's noise of r = 1 is expected to give. Embeddings: rows of tokens drawn from the text, H what the linears that read
// the stream make of an error (stream_metric.h). g: recipes of several sizes are really rounded (by search) and measured,
// and ln g(x)/x is interpolated between them. Near the optimum predictions are not good enough: refine_plan measures what
// single tensors cost in types that the plan might change to.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "calibrate/corpus.h"
#include "lens/sensitivity.h"
#include "page/words.h"
#include "pipeline/quantize.h"
#include "plan/allocate.h"
#include "plan/evidence.h"

namespace tsubu {

// What refine_plan may spend. By the clock the result depends on the machine, by numbers it does not.
struct MeasureOptions {
  std::optional<double> seconds;  // at most; 0: nothing is measured
  double per_tensor = 4;          // measurements on average, besides those that are known; where no time is given
};

// Where α comes from: noise in one tensor at a time, or the Fisher diagonal from one backward pass for all of them. Both in
// nats per unit of squared relative error, on the same tokens.
enum class SensitivityMethod { kProbes, kFisher };
inline constexpr std::string_view kSensitivityMethods[] = {"probes", "fisher"};  // by their numbers
// Throws Error(kUsage) with what there is.
SensitivityMethod sensitivity_method(std::string_view name);
inline std::string_view method_name(SensitivityMethod m) { return kSensitivityMethods[static_cast<size_t>(m)]; }

struct PlannerOptions {
  std::vector<const TypeInfo*> allowed;   // to choose from; empty: planner_types()
  std::vector<const TypeInfo*> known;     // whose errors are wanted besides, to predict other recipes
  bool fused = false;                     // linears that read one value (q, k, v; gate, up) get one type
  bool float_tables = false;              // embeddings and head stay F16, as in layouts that quantize linears only
  bool calibrated = true;                 // rounding with calibration text will follow, else search
  uint32_t n_anchors = 4;                 // recipes that are really rounded and measured
  uint64_t sample_weights = uint64_t{1} << 15;  // of each tensor, rounded to every candidate type
  SensitivityMethod method = SensitivityMethod::kProbes;
  SensitivityOptions sensitivity;         // of probes
  MeasureOptions measure;
  std::string costs_path;                 // read when it is there and fits, else measured and written; empty: neither
};

// The types to choose from when nothing else is said: those that no other of about their size beats, and F16.
std::vector<const TypeInfo*> planner_types();
// Those of planner_types() that are only looked at where blocks of 256 do not fit.
bool is_small_block_type(const TypeInfo& type);
// May the plan give the tensor that type, apart from whether it fits its rows?
bool may_choose(const PlannerOptions& options, const ModelTensor& tensor, const TypeInfo& type);

struct TypeCost {
  const TypeInfo* type = nullptr;
  uint64_t size_bytes = 0;   // in a file: padded to its alignment
  double error = 0;          // e, of the rounding that will follow
  double search_error = 0, rounded_error = 0;  // e, of plain search; of calibrated rounding, where that was looked at
  double cost = 0;           // c: the divergence that this adds
  double spread = 0;         // standard deviation of ln c, where c was refined
  std::vector<double> windows;  // measured: divergence of each window, this tensor alone rounded; empty: not measured
};

struct TensorCosts {
  Sensitivity sensitivity;
  std::vector<TypeCost> types;  // by rising size
  const TypeCost* find(const TypeInfo& type) const;
};

struct Anchor {
  std::string name;
  double predicted = 0, measured = 0;  // additive sum and real KLD, both by search
  std::vector<const TypeInfo*> types;  // of PlanCosts::tensors
};

struct Prediction {
  double mean = 0, low = 0, high = 0;  // 95 %
};

struct PlanCosts {
  std::vector<TensorCosts> tensors;  // quantizable ones, in graph order
  std::vector<Anchor> anchors;       // by rising prediction
  std::vector<std::string> unplanned;  // quantizable, but no operation that is probed reads them: they stay F16
  uint64_t fixed_bytes = 0;          // of the file: metadata and what is not quantized
  uint64_t metadata_bytes = 0;
  uint64_t alignment = 32;           // of a tensor's bytes in the file
  uint64_t n_weights = 0;
  double gain = 1;                   // of corrections across tensors, which e does not see (asymmetric targets)
  double spread = 0;                 // standard deviation of ln(measured / predicted)
  bool calibrated = false;           // what c is of
  std::string measured_by;           // what TypeCost::windows are of; empty: there are none
  CostModel scatter;                 // of predicted costs against measured ones, where some were
  SensitivityMethod method = SensitivityMethod::kProbes;  // of the sensitivities
  uint64_t n_tokens_scored = 0;
  double seconds = 0, sensitivity_seconds = 0;  // in all; of the sensitivities alone

  // Costs from what is known: predicted ones, and measured ones (plan/evidence.h).
  void weigh();
  // types: one for each of `tensors`. Throws Error(kUsage) when the costs of one are not known.
  double sum(const std::vector<const TypeInfo*>& types, bool search = false) const;
  Prediction predict(double sum) const;
  Prediction predict(const std::vector<const TypeInfo*>& types) const { return predict(sum(types)); }
  double sum_for(double kld) const;  // the sum whose prediction is that
  uint64_t size_bytes(const std::vector<const TypeInfo*>& types) const;
  uint64_t padded_bytes(const ModelTensor& tensor, const TypeInfo& type) const;  // as it lies in the file
};

// key: costs_key(…). As a file, so that several sizes are planned from one measurement.
void save_costs(const PlanCosts& costs, const std::string& key, const std::string& path);
// nullopt when the file is of another key (said in a note) or not there; Error(kBadInput) when it is none of ours.
std::optional<PlanCosts> load_costs(const Model& model, const std::string& key, const std::string& path);
// What costs depend on: the model's files, the text, statistics and options.
std::string costs_key(const Model& model, const Corpus& probes, const QuantizeOptions& quantize, const PlannerOptions& options);
// What measured costs of single tensors depend on besides: how they are rounded.
std::string measured_key(const QuantizeOptions& quantize, const PlannerOptions& options);

// corpus: windows to probe with; the first of them when the logits of all would not fit in memory.
PlanCosts plan_costs(const Model& model, const Corpus& corpus, const QuantizeOptions& quantize,
                     const PlannerOptions& options, ThreadPool& pool);

struct PlanTarget {
  uint64_t max_bytes = 0;  // of the file; 0: none
  double max_kld = 0;      // predicted; 0: none
};

struct Plan {
  std::vector<const TypeInfo*> types;  // of PlanCosts::tensors
  uint64_t size_bytes = 0;
  double bits_per_weight = 0;
  Prediction predicted;
  bool is_optimal = false;             // of the additive model, proved
  double bound = 0;                    // no allocation has a smaller sum (or size) than this
};

// Throws Error(kUsage) when the target cannot be met: with the least that can.
Plan make_plan(const PlanCosts& costs, const PlannerOptions& options, const PlanTarget& target);
std::vector<Plan> plan_front(const PlanCosts& costs, const PlannerOptions& options);
// What a byte is worth at that size: Σ c that the next step of the front takes off for each byte it adds.
double byte_price(const PlanCosts& costs, const std::vector<Plan>& front, uint64_t size_bytes);

struct PlanChange {
  const ModelTensor* tensor = nullptr;
  const TypeInfo *before = nullptr, *after = nullptr;
};
struct Refinement {
  Plan first;                        // by predicted costs
  std::vector<PlanChange> changes;   // from that to the last
  size_t n_measured = 0, n_known = 0;  // costs measured now and before
  size_t n_rounds = 0;
  bool is_stable = false;            // no measurement that is left is likely to change the plan
  double first_cost = 0, last_cost = 0;  // Σ c of both plans, by the refined costs
  double seconds = 0;
};
// Measures single tensors, rounded as they will be, on the probes' windows: those types first whose cost decides most about
// the plan, until no other is likely to change it. Updates costs (and their file) and returns the plan they give. probes:
// what plan_costs was given. Calibrated rounding learns from windows of quantize.corpus that are not among them.
Plan refine_plan(const Model& model, const Corpus& probes, const QuantizeOptions& quantize, const PlannerOptions& options,
                 const PlanTarget& target, PlanCosts& costs, ThreadPool& pool, Refinement* refinement = nullptr);

// As data: the recipe names tensors. Its file_type is that of the stock recipe with the most common type.
Recipe plan_recipe(const PlanCosts& costs, const Plan& plan, const std::string& name);
// Lines for llama.cpp's --tensor-type-file.
std::string tensor_type_file(const PlanCosts& costs, const Plan& plan);
// Types that a recipe gives to PlanCosts::tensors.
std::vector<const TypeInfo*> recipe_types(const Model& model, const PlanCosts& costs, const Recipe& recipe,
                                          const PlanOptions& options);

// All rows of a tensor by plain search, with its part of the importance matrix where there is one.
std::vector<std::byte> encode_tensor(const ModelTensor& tensor, const TypeInfo& type, const Imatrix* stats, ThreadPool& pool);
// How many of the corpus's windows a HarmMeter may have here: logits are kept in memory.
size_t windows_that_fit(const Model& model, const Corpus& corpus);
// The planned tensors rounded by search to these types, in memory.
Harm measure_recipe(const PlanCosts& costs, const std::vector<const TypeInfo*>& types, const Imatrix* stats,
                    HarmMeter& meter, ThreadPool& pool);

Json to_json(const PlanCosts& costs);
Json to_json(const Plan& plan, const PlanCosts& costs);
Json to_json(const Refinement& refinement);

struct NamedPrediction {
  std::string name;
  double bits_per_weight = 0;
  Prediction predicted;
};
// One self-contained page (plan_page.cc) in the words' language; plan may be nullptr.
std::string plan_page(const std::string& model, const PlanCosts& costs, const std::vector<Plan>& front,
                      const std::vector<NamedPrediction>& others, const Plan* plan, const Words& words);

}  // namespace tsubu
