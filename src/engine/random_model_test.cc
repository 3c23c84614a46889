// The definition of every operation in double, for engine_test.cc.
#include "engine/random_model.h"

#include <algorithm>

namespace tsubu {
namespace {

using Rows = std::vector<std::vector<double>>;

std::vector<double> row_of(const ModelTensor& tensor, uint64_t row) {
  std::vector<float> values(tensor.n_cols());
  tensor.read_rows(row, 1, values.data());
  return {values.begin(), values.end()};
}

std::vector<double> norm(const std::vector<double>& x, const Op& op, const Model& model) {
  const size_t slice = op.head_dim ? op.head_dim : x.size();
  const std::vector<double> weight = row_of(model.tensor(op.weight), 0);
  std::vector<double> y(x.size());
  for (size_t begin = 0; begin < x.size(); begin += slice) {
    double mean = 0, square = 0;
    if (op.kind == OpKind::kLayerNorm)
      for (size_t i = 0; i < slice; ++i) mean += x[begin + i] / static_cast<double>(slice);
    for (size_t i = 0; i < slice; ++i)
      square += (x[begin + i] - mean) * (x[begin + i] - mean) / static_cast<double>(slice);
    for (size_t i = 0; i < slice; ++i)
      y[begin + i] = (x[begin + i] - mean) / std::sqrt(square + static_cast<double>(op.eps)) * weight[i];
  }
  if (op.kind == OpKind::kLayerNorm) {
    const std::vector<double> bias = row_of(model.tensor(op.bias), 0);
    for (size_t i = 0; i < y.size(); ++i) y[i] += bias[i];
  }
  return y;
}

std::vector<double> linear(std::vector<double> x, const Op& op, const Model& model, const LinearMeaning& meaning) {
  if (meaning.input) meaning.input(op, x);
  const ModelTensor& weight = model.tensor(op.weight);
  std::vector<double> y = op.bias.empty() ? std::vector<double>(weight.n_rows()) : row_of(model.tensor(op.bias), 0);
  for (uint64_t r = 0; r < weight.n_rows(); ++r) {
    std::vector<double> w = row_of(weight, r);
    if (meaning.weight_row) meaning.weight_row(op, w);
    for (size_t c = 0; c < x.size(); ++c) y[r] += w[c] * x[c];
  }
  return y;
}

double gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

// The chosen experts, found one after the other; each slot's expert, then its weight.
std::vector<double> route(const Op& op, const std::vector<double>& scores, const Model& model) {
  const size_t n = scores.size();
  const RouteSpec& spec = op.route;
  const bool is_sigmoid = spec.weights == RouteWeights::kSigmoid || spec.weights == RouteWeights::kSigmoidChosen;
  std::vector<double> shares(n);  // of the whole, or each its own
  double total = 0;
  for (double s : scores) total += std::exp(s);
  for (size_t e = 0; e < n; ++e) shares[e] = is_sigmoid ? 1 / (1 + std::exp(-scores[e])) : std::exp(scores[e]) / total;
  std::vector<double> by = shares;
  if (!op.bias.empty()) {
    const std::vector<double> bias = row_of(model.tensor(op.bias), 0);
    for (size_t e = 0; e < n; ++e) by[e] += bias[e];
  }
  // Group by group: its best scores, one after the other; the worst groups go.
  const size_t size = n / spec.n_groups;
  std::vector<double> group_scores(spec.n_groups);
  for (size_t g = 0; g < spec.n_groups; ++g) {
    std::vector<double> members(by.begin() + static_cast<std::ptrdiff_t>(g * size), by.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
    std::sort(members.rbegin(), members.rend());
    for (size_t i = 0; i < std::min<size_t>(spec.group_top, size); ++i) group_scores[g] += members[i];
  }
  std::vector<bool> allowed(n, true), chosen(n, false);
  for (size_t gone = spec.n_groups_used; gone < spec.n_groups; ++gone) {
    size_t worst = spec.n_groups;
    for (size_t g = 0; g < spec.n_groups; ++g)
      if (allowed[g * size] && (worst == spec.n_groups || group_scores[g] <= group_scores[worst])) worst = g;
    for (size_t e = worst * size; e < (worst + 1) * size; ++e) allowed[e] = false;
  }
  for (uint32_t i = 0; i < op.n_chosen; ++i) {
    size_t best = n;
    for (size_t e = 0; e < n; ++e)
      if (allowed[e] && !chosen[e] && (best == n || by[e] > by[best])) best = e;
    chosen[best] = true;
  }
  double sum = 0;
  for (size_t e = 0; e < n; ++e)
    if (chosen[e]) sum += shares[e];
  if (spec.weights == RouteWeights::kSigmoid || spec.weights == RouteWeights::kSoftmaxAll) sum = 1;
  std::vector<double> ids, weights;
  for (size_t e = 0; e < n; ++e) {
    if (!chosen[e] && op.n_used < op.n_experts) continue;
    ids.push_back(static_cast<double>(e));
    weights.push_back(chosen[e] ? shares[e] / sum : 0.0);
  }
  ids.insert(ids.end(), weights.begin(), weights.end());
  return ids;
}

std::vector<double> experts(const Op& op, const std::vector<double>& x, const std::vector<double>& route,
                            const Model& model, const LinearMeaning& meaning) {
  const ModelTensor& weight = model.tensor(op.weight);
  const size_t n_rows = weight.n_rows() / op.n_experts, n_cols = weight.n_cols();
  std::vector<double> y;
  for (size_t s = 0; s < op.n_used; ++s) {
    const auto e = static_cast<size_t>(route[s]);
    const auto from = x.begin() + static_cast<std::ptrdiff_t>(op.by_slots ? s * n_cols : 0);
    std::vector<double> input(from, from + static_cast<std::ptrdiff_t>(n_cols));
    if (meaning.input) meaning.input(op, input);
    for (size_t r = 0; r < n_rows; ++r) {
      std::vector<double> w = row_of(weight, e * n_rows + r);
      if (meaning.weight_row) meaning.weight_row(op, w);
      double sum = op.bias.empty() ? 0 : row_of(model.tensor(op.bias), e)[r];
      for (size_t c = 0; c < n_cols; ++c) sum += w[c] * input[c];
      y.push_back(sum);
    }
  }
  return y;
}

std::vector<double> rope(std::vector<double> x, const Op& op, const RopeSpec& spec, size_t position) {
  const size_t n_pairs = spec.inverse_frequencies.size();
  for (size_t h = 0; h < op.n_heads; ++h) {
    for (size_t i = 0; i < n_pairs; ++i) {
      const bool interleaved = spec.style == RopeSpec::Style::kInterleaved;
      double& a = x[h * op.head_dim + (interleaved ? 2 * i : i)];
      double& b = x[h * op.head_dim + (interleaved ? 2 * i + 1 : i + n_pairs)];
      const double angle = static_cast<double>(position) * static_cast<double>(spec.inverse_frequencies[i]);
      const double ra = a * std::cos(angle) - b * std::sin(angle), rb = a * std::sin(angle) + b * std::cos(angle);
      a = ra * static_cast<double>(spec.magnitude);
      b = rb * static_cast<double>(spec.magnitude);
    }
  }
  return x;
}

std::vector<double> attention(const Op& op, const Rows& q, const Rows& k, const Rows& v, size_t t,
                              const std::vector<double>& sinks) {
  std::vector<double> y(op.n_heads * op.value_dim);
  const size_t low = op.sliding_window > 0 && t >= op.sliding_window ? t + 1 - op.sliding_window : 0;
  for (size_t h = 0; h < op.n_heads; ++h) {
    const size_t at = h * op.head_dim, kv_head = h / (op.n_heads / op.n_kv_heads), kv = kv_head * op.head_dim;
    std::vector<double> p(t + 1);
    double sum = 0;
    for (size_t j = low; j <= t; ++j) {
      double score = 0;
      for (size_t d = 0; d < op.head_dim; ++d) score += q[t][at + d] * k[j][kv + d];
      score *= static_cast<double>(op.attention_scale);
      const auto cap = static_cast<double>(op.softcap);
      if (cap != 0) score = cap * std::tanh(score / cap);
      if (op.max_alibi_bias != 0) {  // heads are a power of two here
        const double slope = std::exp2(-static_cast<double>(op.max_alibi_bias) * static_cast<double>(h + 1) / op.n_heads);
        score -= slope * static_cast<double>(t - j);
      }
      sum += p[j] = std::exp(score);
    }
    if (!sinks.empty()) sum += std::exp(sinks[h]);
    for (size_t j = low; j <= t; ++j)
      for (size_t d = 0; d < op.value_dim; ++d) y[h * op.value_dim + d] += p[j] / sum * v[j][kv_head * op.value_dim + d];
  }
  return y;
}

}  // namespace

std::vector<double> reference_logits(const Model& model, const std::vector<TokenId>& tokens,
                                     const LinearMeaning& meaning) {
  const Graph& graph = model.graph();
  std::vector<Rows> values(graph.widths.size(), Rows(tokens.size()));
  for (const Op& op : graph.ops) {
    const auto in = [&](size_t i) -> Rows& { return values[static_cast<size_t>(op.inputs[i])]; };
    for (size_t t = 0; t < tokens.size(); ++t) {
      std::vector<double>& y = values[static_cast<size_t>(op.output)][t];
      switch (op.kind) {
        case OpKind::kEmbed:
          y = row_of(model.tensor(op.weight), static_cast<uint64_t>(tokens[t]));
          break;
        case OpKind::kAddPosition:
          y = row_of(model.tensor(op.weight), t + op.offset);
          for (size_t i = 0; i < y.size(); ++i) y[i] += in(0)[t][i];
          break;
        case OpKind::kRmsNorm:
        case OpKind::kLayerNorm:
          y = norm(in(0)[t], op, model);
          break;
        case OpKind::kLinear:
          y = linear(in(0)[t], op, model, meaning);
          if (op.softcap != 0)
            for (double& v : y) v = static_cast<double>(op.softcap) * std::tanh(v / static_cast<double>(op.softcap));
          break;
        case OpKind::kSlice: {
          const size_t heads = op.head_dim > 0 ? op.n_heads : 1, n = graph.widths[static_cast<size_t>(op.output)] / heads;
          for (size_t h = 0; h < heads; ++h)
            for (size_t i = 0; i < n; ++i) y.push_back(in(0)[t][h * op.head_dim + op.offset + i]);
          break;
        }
        case OpKind::kConcat:
          for (size_t h = 0; h < op.n_heads; ++h)
            for (size_t side : {0, 1}) {
              const std::vector<double>& x = in(side)[t];
              const size_t n = x.size() / op.n_heads;
              for (size_t i = 0; i < n; ++i) y.push_back(x[h * n + i]);
            }
          break;
        case OpKind::kHeads:
          for (size_t h = 0; h < op.n_experts; ++h) y.push_back(static_cast<double>(h));
          y.resize(2 * op.n_experts, 1.0);
          break;
        case OpKind::kRope:
          y = rope(in(0)[t], op, graph.ropes[static_cast<size_t>(op.rope)], t);
          break;
        case OpKind::kAttention:
          y = attention(op, in(0), in(1), in(2), t, op.weight.empty() ? std::vector<double>() : row_of(model.tensor(op.weight), 0));
          break;
        case OpKind::kSiluMul:
          for (size_t i = 0; i < in(0)[t].size(); ++i)
            y.push_back(in(0)[t][i] / (1 + std::exp(-in(0)[t][i])) * in(1)[t][i]);
          break;
        case OpKind::kGelu:
          for (double x : in(0)[t]) y.push_back(gelu(x));
          break;
        case OpKind::kScale:
          for (double x : in(0)[t]) y.push_back(x * static_cast<double>(op.scale));
          break;
        case OpKind::kGeluMul:
          for (size_t i = 0; i < in(0)[t].size(); ++i) y.push_back(gelu(in(0)[t][i]) * in(1)[t][i]);
          break;
        case OpKind::kSwigluOai:
          for (size_t i = 0; i < in(0)[t].size(); ++i) {
            const double g = std::min(in(0)[t][i], 7.0), u = std::clamp(in(1)[t][i], -7.0, 7.0);
            y.push_back(g / (1 + std::exp(-1.702 * g)) * (u + 1));
          }
          break;
        case OpKind::kGeluErf:
          for (double x : in(0)[t]) y.push_back(0.5 * x * std::erfc(-x / std::sqrt(2.0)));
          break;
        case OpKind::kRelu:
          for (double x : in(0)[t]) y.push_back(std::max(x, 0.0));
          break;
        case OpKind::kRoute:
          y = route(op, in(0)[t], model);
          break;
        case OpKind::kExpertLinear:
          y = experts(op, in(0)[t], in(1)[t], model, meaning);
          break;
        case OpKind::kExpertSum: {
          const size_t w = graph.widths[static_cast<size_t>(op.output)];
          y.assign(w, 0.0);
          for (size_t i = 0; i < in(0)[t].size(); ++i)
            y[i % w] += in(0)[t][i] * in(1)[t][op.n_used + i / w] * static_cast<double>(op.scale);
          break;
        }
        case OpKind::kAdd:
          for (size_t i = 0; i < in(0)[t].size(); ++i) y.push_back(in(0)[t][i] + in(1)[t][i]);
          break;
      }
    }
  }
  std::vector<double> logits;
  for (const auto& row : values[static_cast<size_t>(graph.logits)]) logits.insert(logits.end(), row.begin(), row.end());
  return logits;
}

}  // namespace tsubu
