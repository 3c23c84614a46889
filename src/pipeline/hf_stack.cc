#include "pipeline/hf_stack.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "codec/mxfp4.h"
#include "kernel/kernels.h"
#include "pipeline/carry_codes.h"
#include "pipeline/layout_schemes.h"

namespace tsubu {
namespace {

constexpr uint64_t kReadRows = 64;

uint64_t n_experts(const HfTensor& stack) { return stack.spec.shape.front(); }

// Rows of one expert, sources in turn: (rows of one source · sources, columns).
std::vector<float> read_expert(const HfTensor& stack, uint64_t expert, ThreadPool& pool) {
  const uint64_t n_sources = stack.sources.size();
  if (n_sources == 1) return read_hf_rows(stack.sources.front()->matrix(expert), stack.spec, pool);
  std::vector<float> all;
  for (uint64_t s = 0; s < n_sources; ++s) {
    const ModelTensor t = stack.sources[s]->matrix(expert);
    const std::vector<float> w = read_hf_rows(t, stack.spec, pool);
    const uint64_t cols = t.n_cols();
    all.resize(w.size() * n_sources);
    for (uint64_t row = 0; row < t.n_rows(); ++row)
      std::copy_n(w.data() + row * cols, cols, all.data() + (row * n_sources + s) * cols);
  }
  return all;
}

bool carries(const HfTensor& stack, const TypeInfo& mxfp4) {
  return std::all_of(stack.sources.begin(), stack.sources.end(), [&](const ModelTensor* t) {
    return &t->type() == &mxfp4 ? !t->raw().empty() : can_carry_codes(*t, mxfp4);
  });
}

// One expert's rows as GGUF's blocks, sources in turn.
std::vector<std::byte> expert_blocks(const HfTensor& stack, uint64_t expert, const std::vector<std::vector<float>>& importance,
                                     bool as_they_are, ThreadPool& pool) {
  const TypeInfo& type = type_named(MXFP4::kName);
  const uint64_t n_sources = stack.sources.size(), cols = stack.sources.front()->n_cols();
  const uint64_t row_bytes = cols / type.block_len * type.block_bytes;
  std::vector<std::byte> all;
  for (uint64_t s = 0; s < n_sources; ++s) {
    const ModelTensor t = stack.sources[s]->matrix(expert);
    std::vector<std::byte> blocks(t.n_rows() * row_bytes);
    all.resize(blocks.size() * n_sources);
    if (as_they_are && &t.type() == &type) {
      std::copy(t.raw().begin(), t.raw().end(), blocks.begin());
    } else if (as_they_are) {
      carry_codes(t, type, 0, t.n_rows(), blocks.data());
    } else {
      const std::vector<float> w = read_hf_rows(t, stack.spec, pool);
      const float* weights = importance[s].empty() ? nullptr : importance[s].data() + expert * cols;
      pool.parallel_for(t.n_rows(), [&](size_t row, int) {
        kernels().encode[type.index](w.data() + row * cols, weights, blocks.data() + row * row_bytes, cols);
      });
    }
    for (uint64_t row = 0; row < t.n_rows(); ++row)
      std::copy_n(blocks.data() + row * row_bytes, row_bytes, all.data() + (row * n_sources + s) * row_bytes);
  }
  return all;
}

LayoutMatrix matrix_of_blocks(const std::vector<std::byte>& bytes, uint64_t cols) {
  const std::span blocks(reinterpret_cast<const MXFP4::Block*>(bytes.data()), bytes.size() / sizeof(MXFP4::Block));
  LayoutMatrix q;
  q.n_cols = cols;
  q.n_rows = blocks.size() * MXFP4::kBlockLen / cols;
  q.group_columns = MXFP4::kBlockLen;
  q.codes.reserve(q.n_rows * cols);
  for (const MXFP4::Block& block : blocks) {
    for (int j = 0; j < 16; ++j) q.codes.push_back(block.qs[j] & 15);
    for (int j = 0; j < 16; ++j) q.codes.push_back(block.qs[j] >> 4);
    q.scales.push_back(std::ldexp(1.0f, block.e - 127));
  }
  return q;
}

std::vector<std::vector<float>> importance_of(const HfTensor& stack, const Statistics* stats) {
  std::vector<std::vector<float>> all;
  for (const ModelTensor* t : stack.sources) {
    all.push_back(stats && stats->has(t->name()) ? stats->mean_squares(t->name()) : std::vector<float>());
    if (!all.back().empty() && all.back().size() != t->n_matrices() * t->n_cols())
      fail(ExitCode::kBadInput,
           "{}: {}: expected {} columns of {} experts as in the model, found {} values (were these statistics made with "
           "another model?)",
           stats->path(), t->name(), t->n_cols(), t->n_matrices(), all.back().size());
  }
  return all;
}

}  // namespace

namespace {

// The rows of a head's keys, which lie transposed in the model, then those of its values.
std::vector<float> read_head(const HfTensor& stack, uint64_t head, ThreadPool& pool) {
  const ModelTensor k = stack.sources[0]->matrix(head), v = stack.sources[1]->matrix(head);
  const std::vector<float> turned = read_hf_rows(k, stack.spec, pool), rest = read_hf_rows(v, stack.spec, pool);
  std::vector<float> rows;
  rows.reserve(turned.size() + rest.size());
  for (uint64_t r = 0; r < k.n_cols(); ++r)
    for (uint64_t c = 0; c < v.n_cols(); ++c) rows.push_back(turned[c * k.n_cols() + r]);
  rows.insert(rows.end(), rest.begin(), rest.end());
  return rows;
}

StackWritten write_float_heads(const HfTensor& stack, const TypeInfo& type, HfWriter& writer, ThreadPool& pool) {
  const ModelTensor &keys = *stack.sources[0], &values = *stack.sources[1];
  const uint64_t n_heads = keys.n_matrices(), cols = values.n_cols();
  StackWritten written{.method = "copy", .shape = {n_heads * stack.spec.head_rows, cols}};
  for (uint64_t head = 0; head < n_heads; ++head) {
    if (keys.matrix(head).quantized()) written.method = "decode";
    const std::vector<float> rows = read_head(stack, head, pool);
    std::vector<std::byte> bytes(rows.size() * type.block_bytes);
    kernels().encode[type.index](rows.data(), nullptr, bytes.data(), rows.size());
    if (head == 0)
      writer.add(stack.spec.hf_name, *find_safe_dtype(type.name), written.shape, bytes);
    else
      writer.extend(bytes);
    written.size_bytes += bytes.size();
  }
  return written;
}

}  // namespace

std::vector<float> read_heads(const HfTensor& stack, ThreadPool& pool) {
  std::vector<float> all;
  for (uint64_t head = 0; head < stack.sources[0]->n_matrices(); ++head) {
    const std::vector<float> rows = read_head(stack, head, pool);
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return all;
}

StackWritten write_float_stack(const HfTensor& stack, const TypeInfo& type, HfWriter& writer, ThreadPool& pool) {
  if (stack.is_heads()) return write_float_heads(stack, type, writer, pool);
  const SafeDtype dtype = *find_safe_dtype(type.name);
  const uint64_t n_sources = stack.sources.size(), cols = stack.sources.front()->n_cols();
  const bool is_bias = stack.spec.shape.size() == 2;
  std::vector<uint64_t> shape = {n_experts(stack), cols * n_sources};
  if (!is_bias) shape = {n_experts(stack), cols, stack.spec.shape[1] * n_sources};
  StackWritten written{.method = "copy", .shape = shape};
  if (!is_bias) std::swap(written.shape[1], written.shape[2]);
  for (uint64_t e = 0; e < (is_bias ? 1 : n_experts(stack)); ++e) {
    std::vector<float> turned;
    if (is_bias) {  // (experts, outputs) of each source
      for (uint64_t s = 0; s < n_sources; ++s) {
        const std::vector<float> w = read_hf_rows(*stack.sources[s], stack.spec, pool);
        turned.resize(w.size() * n_sources);
        for (uint64_t i = 0; i < w.size(); ++i) turned[i * n_sources + s] = w[i];
      }
    } else {
      if (stack.sources.front()->matrix(e).quantized()) written.method = "decode";
      const std::vector<float> w = read_expert(stack, e, pool);
      const uint64_t rows = w.size() / cols;
      turned.resize(w.size());
      for (uint64_t r = 0; r < rows; ++r)
        for (uint64_t c = 0; c < cols; ++c) turned[c * rows + r] = w[r * cols + c];
    }
    std::vector<std::byte> bytes(turned.size() * type.block_bytes);
    kernels().encode[type.index](turned.data(), nullptr, bytes.data(), turned.size());
    if (e == 0)
      writer.add(stack.spec.hf_name, dtype, shape, bytes);
    else
      writer.extend(bytes);
    written.size_bytes += bytes.size();
  }
  return written;
}

StackWritten write_mxfp4_stack(const HfTensor& stack, const Statistics* stats, HfWriter& writer, ThreadPool& pool) {
  const uint64_t cols = stack.sources.front()->n_cols();
  if (cols % MXFP4::kBlockLen != 0)
    fail(ExitCode::kUnsupported, "tensor {}: {} inputs are no multiple of MXFP4's group of {}", stack.spec.hf_name, cols,
         MXFP4::kBlockLen);
  const bool as_they_are = carries(stack, type_named(MXFP4::kName));
  const auto importance = importance_of(stack, stats);
  const Layout& layout = layout_named("mxfp4");
  StackWritten written{.method = as_they_are ? "codes" : "search",
                       .shape = {n_experts(stack), stack.sources.front()->n_rows() / n_experts(stack) * stack.sources.size(), cols}};
  StoredPart scales;
  for (uint64_t e = 0; e < n_experts(stack); ++e) {
    std::vector<StoredPart> parts = layout.store(matrix_of_blocks(expert_blocks(stack, e, importance, as_they_are, pool), cols));
    for (StoredPart& part : parts) part.shape.insert(part.shape.begin(), n_experts(stack));
    for (const StoredPart& part : parts) written.size_bytes += part.bytes.size();
    if (e == 0) {
      writer.add(stack.spec.hf_name + parts[0].suffix, parts[0].dtype, parts[0].shape, parts[0].bytes);
      scales = std::move(parts[1]);
    } else {
      writer.extend(parts[0].bytes);
      scales.bytes.insert(scales.bytes.end(), parts[1].bytes.begin(), parts[1].bytes.end());
    }
  }
  writer.add(stack.spec.hf_name + scales.suffix, scales.dtype, scales.shape, scales.bytes);
  return written;
}

double stack_error(const HfTensor& stack, const QuantMatrix& written, ThreadPool& pool) {
  double error = 0, reference = 0;
  for (uint64_t e = 0; e < n_experts(stack); ++e) {
    const std::vector<float> w = read_expert(stack, e, pool);
    const uint64_t cols = written.n_cols(), rows = w.size() / cols;
    std::vector<double> errors((rows + kReadRows - 1) / kReadRows), references(errors.size());
    pool.parallel_for(errors.size(), [&](size_t item, int) {
      const uint64_t first = item * kReadRows, count = std::min(kReadRows, rows - first);
      std::vector<float> values(count * cols);
      written.read_rows(e * rows + first, count, values.data());
      for (uint64_t i = 0; i < count * cols; ++i) {
        const auto v = static_cast<double>(w[first * cols + i]), d = static_cast<double>(values[i]) - v;
        errors[item] += d * d;
        references[item] += v * v;
      }
    });
    for (size_t i = 0; i < errors.size(); ++i) {
      error += errors[i];
      reference += references[i];
    }
  }
  return reference > 0 ? std::sqrt(error / reference) : 0;
}

}  // namespace tsubu
