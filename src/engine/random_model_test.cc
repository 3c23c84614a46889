// The definition of every operation in double, for engine_test.cc.
#include "engine/random_model.h"

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

std::vector<double> attention(const Op& op, const Rows& q, const Rows& k, const Rows& v, size_t t) {
  std::vector<double> y(op.n_heads * op.head_dim);
  const size_t low = op.sliding_window > 0 && t >= op.sliding_window ? t + 1 - op.sliding_window : 0;
  for (size_t h = 0; h < op.n_heads; ++h) {
    const size_t at = h * op.head_dim, kv = h / (op.n_heads / op.n_kv_heads) * op.head_dim;
    std::vector<double> p(t + 1);
    double sum = 0;
    for (size_t j = low; j <= t; ++j) {
      double score = 0;
      for (size_t d = 0; d < op.head_dim; ++d) score += q[t][at + d] * k[j][kv + d];
      sum += p[j] = std::exp(score * static_cast<double>(op.attention_scale));
    }
    for (size_t j = low; j <= t; ++j)
      for (size_t d = 0; d < op.head_dim; ++d) y[at + d] += p[j] / sum * v[j][kv + d];
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
          y = row_of(model.tensor(op.weight), t);
          for (size_t i = 0; i < y.size(); ++i) y[i] += in(0)[t][i];
          break;
        case OpKind::kRmsNorm:
        case OpKind::kLayerNorm:
          y = norm(in(0)[t], op, model);
          break;
        case OpKind::kLinear:
          y = linear(in(0)[t], op, model, meaning);
          break;
        case OpKind::kSlice: {
          const auto first = in(0)[t].begin() + op.offset;
          y.assign(first, first + graph.widths[static_cast<size_t>(op.output)]);
          break;
        }
        case OpKind::kRope:
          y = rope(in(0)[t], op, graph.ropes[static_cast<size_t>(op.rope)], t);
          break;
        case OpKind::kAttention:
          y = attention(op, in(0), in(1), in(2), t);
          break;
        case OpKind::kSiluMul:
          for (size_t i = 0; i < in(0)[t].size(); ++i)
            y.push_back(in(0)[t][i] / (1 + std::exp(-in(0)[t][i])) * in(1)[t][i]);
          break;
        case OpKind::kGelu:
          for (double x : in(0)[t])
            y.push_back(0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))));
          break;
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
