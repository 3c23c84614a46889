#include "engine/program.h"

#include <algorithm>

#include "base/error.h"

namespace tsubu {
namespace {

size_t width_of(const Graph& graph, ValueId value) { return graph.widths[static_cast<size_t>(value)]; }

const ModelTensor& table_tensor(const Model& model, const std::string& name, size_t n_cols) {
  const ModelTensor& t = model.tensor(name);
  if (t.n_cols() != n_cols || t.n_rows() == 0)
    fail(ExitCode::kBadInput, "{}: tensor {}: {} rows of {} columns: expected columns: {}", model.path(), name,
         t.n_rows(), t.n_cols(), n_cols);
  return t;
}

std::vector<float> vector_tensor(const Model& model, const std::string& name, size_t n) {
  if (name.empty()) return {};
  const ModelTensor& t = model.tensor(name);
  if (t.n_elements() != n)
    fail(ExitCode::kBadInput, "{}: tensor {}: {} values: expected {}", model.path(), name, t.n_elements(), n);
  return read_vector(t);
}

std::unique_ptr<Linear> make_linear(const Model& model, const Op& op, size_t n_rows, size_t n_cols) {
  const ModelTensor& weight = table_tensor(model, op.weight, n_cols);
  if (weight.n_rows() != n_rows)
    fail(ExitCode::kBadInput, "{}: tensor {}: {} rows: expected {}", model.path(), op.weight, weight.n_rows(), n_rows);
  const ModelTensor* bias = op.bias.empty() ? nullptr : &model.tensor(op.bias);
  if (bias && bias->n_elements() != n_rows)
    fail(ExitCode::kBadInput, "{}: tensor {}: {} values: expected {}", model.path(), op.bias, bias->n_elements(),
         n_rows);
  return std::make_unique<Linear>(weight, bias);
}

// Both by name, so that a weight can be replaced.
std::unique_ptr<ExpertLinear> make_experts(const Model& model, const Op& op, size_t n_out, size_t n_in) {
  const ModelTensor& weight = model.tensor(op.weight);
  const size_t n_rows = n_out / op.n_used, n_cols = op.by_slots ? n_in / op.n_used : n_in;
  if (weight.n_matrices() != op.n_experts || weight.n_cols() != n_cols || weight.n_rows() != op.n_experts * n_rows)
    fail(ExitCode::kBadInput, "{}: tensor {}: {} matrices of {} rows and {} columns: expected {} of {} and {}",
         model.path(), op.weight, weight.n_matrices(), weight.n_rows() / weight.n_matrices(), weight.n_cols(),
         op.n_experts, n_rows, n_cols);
  const ModelTensor* bias = op.bias.empty() ? nullptr : &model.tensor(op.bias);
  if (bias && bias->n_elements() != op.n_experts * n_rows)
    fail(ExitCode::kBadInput, "{}: tensor {}: {} values: expected {}", model.path(), op.bias, bias->n_elements(),
         op.n_experts * n_rows);
  return std::make_unique<ExpertLinear>(weight, bias);
}

void check_heads(const Model& model, const Graph& graph, const Op& op) {
  const auto bad = [&](const char* what, size_t found, size_t expected) {
    fail(ExitCode::kBadInput, "{}: attention of block {}: {} is {}: expected {}", model.path(), op.layer, what, found,
         expected);
  };
  if (op.n_kv_heads == 0 || op.head_dim == 0 || op.value_dim == 0 || op.n_heads % op.n_kv_heads != 0)
    bad("the number of query heads", op.n_heads, op.n_kv_heads);
  const auto check = [&](size_t i, const char* what, size_t expected) {
    if (width_of(graph, op.inputs[i]) != expected) bad(what, width_of(graph, op.inputs[i]), expected);
  };
  check(0, "the width of the queries", size_t{op.n_heads} * op.head_dim);
  check(1, "the width of the keys", size_t{op.n_kv_heads} * op.head_dim);
  check(2, "the width of the values", size_t{op.n_kv_heads} * op.value_dim);
}

Step make_step(const Model& model, const Op& op, Program& program) {
  const Graph& graph = model.graph();
  Step step;
  step.op = &op;
  const size_t out = width_of(graph, op.output);
  switch (op.kind) {
    case OpKind::kEmbed:
      step.table = &table_tensor(model, op.weight, out);
      break;
    case OpKind::kAddPosition:
      step.table = &table_tensor(model, op.weight, out);
      if (step.table->n_rows() <= op.offset)
        fail(ExitCode::kBadInput, "{}: tensor {}: {} rows, of which the first {} are no positions", model.path(),
             op.weight, step.table->n_rows(), op.offset);
      program.max_positions = std::min<size_t>(program.max_positions, step.table->n_rows() - op.offset);
      break;
    case OpKind::kRmsNorm:
    case OpKind::kLayerNorm: {
      const size_t slice = op.head_dim > 0 ? op.head_dim : out;
      if (out % slice != 0)
        fail(ExitCode::kBadInput, "{}: norm {}: width {} is no multiple of {}", model.path(), op.weight, out, slice);
      step.weight = vector_tensor(model, op.weight, slice);
      step.bias = vector_tensor(model, op.bias, slice);
      break;
    }
    case OpKind::kLinear:
      step.linear = make_linear(model, op, out, width_of(graph, op.inputs[0]));
      break;
    case OpKind::kRope:
      if (size_t{op.n_heads} * op.head_dim != out ||
          2 * graph.ropes[static_cast<size_t>(op.rope)].inverse_frequencies.size() > op.head_dim)
        fail(ExitCode::kBadInput, "{}: rotary positions of block {} do not fit heads of {}", model.path(), op.layer,
             op.head_dim);
      break;
    case OpKind::kAttention:
      check_heads(model, graph, op);
      step.attention = attention_shape(op, vector_tensor(model, op.weight, op.n_heads));
      step.attention_index = program.caches.size();
      program.caches.push_back({op.n_kv_heads, op.head_dim, op.value_dim});
      program.last_attention = program.steps.size();
      program.has_attention = true;
      break;
    case OpKind::kExpertLinear:
      step.experts = make_experts(model, op, out, width_of(graph, op.inputs[0]));
      break;
    case OpKind::kRoute:
      step.bias = vector_tensor(model, op.bias, op.n_experts);
      break;
    case OpKind::kScale:
    case OpKind::kConcat:
    case OpKind::kHeads:
    case OpKind::kSlice:
    case OpKind::kSiluMul:
    case OpKind::kGeluMul:
    case OpKind::kSwigluOai:
    case OpKind::kGelu:
    case OpKind::kGeluErf:
    case OpKind::kRelu:
    case OpKind::kAdd:
    case OpKind::kExpertSum:
      break;
  }
  return step;
}

// Each value gets the free buffer that fits best (else the widest one, widened); a buffer is free again after the last
// step that reads its value.
void assign_buffers(const Graph& graph, Program& program) {
  std::vector<size_t> last_use(graph.widths.size(), 0);
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    last_use[static_cast<size_t>(graph.ops[i].output)] = i;
    for (ValueId v : graph.ops[i].inputs) last_use[static_cast<size_t>(v)] = i;
  }
  program.buffer_of.assign(graph.widths.size(), 0);
  std::vector<size_t>& widths = program.buffer_widths;
  std::vector<bool> is_free;
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    const Op& op = graph.ops[i];
    if (op.output != graph.logits) {
      const size_t need = width_of(graph, op.output);
      size_t best = widths.size();
      for (size_t b = 0; b < widths.size(); ++b) {
        if (!is_free[b]) continue;
        if (best == widths.size()) {
          best = b;
          continue;
        }
        const bool fits = widths[b] >= need, best_fits = widths[best] >= need;
        if (fits != best_fits ? fits : (fits ? widths[b] < widths[best] : widths[b] > widths[best])) best = b;
      }
      if (best == widths.size()) {
        widths.push_back(need);
        is_free.push_back(true);
      }
      widths[best] = std::max(widths[best], need);
      is_free[best] = false;
      program.buffer_of[static_cast<size_t>(op.output)] = best;
      if (last_use[static_cast<size_t>(op.output)] == i) is_free[best] = true;
    }
    for (ValueId v : op.inputs)
      if (last_use[static_cast<size_t>(v)] == i) is_free[program.buffer_of[static_cast<size_t>(v)]] = true;
  }
}

// The value written before step `at` that step `at` or a later one reads; kNoValue when it is not exactly one.
ValueId value_across(const Graph& graph, size_t at) {
  std::vector<bool> is_written(graph.widths.size(), false);
  for (size_t i = 0; i < at; ++i) is_written[static_cast<size_t>(graph.ops[i].output)] = true;
  ValueId found = kNoValue;
  for (size_t i = at; i < graph.ops.size(); ++i) {
    for (ValueId v : graph.ops[i].inputs) {
      if (!is_written[static_cast<size_t>(v)] || v == found) continue;
      if (found != kNoValue) return kNoValue;
      found = v;
    }
  }
  return found;
}

void find_blocks(const Graph& graph, Program& program) {
  size_t end = 0;
  for (size_t i = 0; i < graph.ops.size(); ++i) {
    const int layer = graph.ops[i].layer;
    if (layer < 0) continue;
    if (static_cast<size_t>(layer) == program.block_begin.size()) program.block_begin.push_back(i);
    end = i + 1;
  }
  if (program.block_begin.empty()) return;
  program.block_begin.push_back(end);
  for (size_t b = 0; b + 1 < program.block_begin.size(); ++b) {
    const ValueId stream = value_across(graph, program.block_begin[b]);
    const bool fits = stream != kNoValue && (b == 0 || width_of(graph, stream) == width_of(graph, program.streams[0]));
    bool is_whole = true;  // all of its operations and no others
    for (size_t i = program.block_begin[b]; i < program.block_begin[b + 1]; ++i)
      is_whole &= graph.ops[i].layer == static_cast<int>(b);
    if (!fits || !is_whole) {
      program.streams.clear();
      return;
    }
    program.streams.push_back(stream);
  }
}

}  // namespace

Program make_program(const Model& model) {
  const Graph& graph = model.graph();
  Program program;
  if (graph.ops.empty() || graph.ops.back().kind != OpKind::kLinear || graph.ops.back().output != graph.logits)
    fail(ExitCode::kUnsupported, "{}: the graph of {} does not end with the linear of the logits", model.path(),
         model.architecture().name());
  for (const RopeSpec& spec : graph.ropes) program.ropes.emplace_back(spec);
  for (const Op& op : graph.ops) program.steps.push_back(make_step(model, op, program));
  program.n_vocab = width_of(graph, graph.logits);
  assign_buffers(graph, program);
  find_blocks(graph, program);
  return program;
}

std::vector<Step*> replace_tensor(Program& program, const Model& model, std::string_view name, const ModelTensor& tensor) {
  std::vector<Step*> changed;
  const auto tensor_of = [&](const std::string& own) -> const ModelTensor* {
    if (own.empty()) return nullptr;
    const auto found = program.replaced.find(own);
    return found == program.replaced.end() ? &model.tensor(own) : found->second;
  };
  program.replaced[std::string(name)] = &tensor;
  for (Step& step : program.steps) {
    const bool is_weight = step.op->weight == name, is_bias = step.op->bias == name && step.op->kind != OpKind::kRoute;
    if (!is_weight && !is_bias) continue;
    changed.push_back(&step);
    if (is_weight && step.table) step.table = &tensor;
    if (is_weight && !step.weight.empty()) step.weight = read_vector(tensor);
    if (is_weight && !step.attention.sinks.empty()) step.attention.sinks = read_vector(tensor);
    if (step.linear) step.linear = std::make_unique<Linear>(*tensor_of(step.op->weight), tensor_of(step.op->bias));
    if (step.experts) step.experts = std::make_unique<ExpertLinear>(*tensor_of(step.op->weight), tensor_of(step.op->bias));
    if (is_bias && !step.linear && !step.experts) step.bias = read_vector(tensor);
  }
  if (changed.empty()) program.replaced.erase(std::string(name));
  return changed;
}

uint64_t Program::size_bytes() const {
  uint64_t bytes = 0;
  for (const Step& s : steps) {
    bytes += (s.weight.size() + s.bias.size()) * sizeof(float);
    if (s.linear) bytes += s.linear->size_bytes();
    if (s.experts) bytes += s.experts->size_bytes();
  }
  for (const RopeTable& r : ropes) bytes += r.size_bytes();
  return bytes;
}

uint64_t Program::quantized_bytes() const {
  uint64_t bytes = 0;
  for (const Step& s : steps) {
    if (s.quantized) bytes += s.quantized->weight_bytes();
    for (const auto& expert : s.quantized_experts) bytes += expert->weight_bytes();
  }
  return bytes;
}

}  // namespace tsubu
