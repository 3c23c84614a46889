// ModelTensor: rows of a tensor in GGUF's order, whatever the order in the file. See model.h.
#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "kernel/kernels.h"
#include "model/model.h"

namespace tsubu {
namespace {

// Rows (head, part, dimension) read as (part, head, dimension), three parts: the source row of a row.
uint64_t split_heads_row(uint64_t row, uint64_t n_rows, uint64_t n_heads) {
  const uint64_t head_dim = n_rows / 3 / n_heads;
  const uint64_t part = row / (n_heads * head_dim), head = row / head_dim % n_heads;
  return (head * 3 + part) * head_dim + row % head_dim;
}

// Half-split heads (x0 … x(h-1), y0 … y(h-1)) as interleaved pairs (x0, y0, x1, y1, …): the source row of a row.
uint64_t half_split_row(uint64_t row, uint64_t head_dim) {
  const uint64_t head = row / head_dim, at = row % head_dim;
  return head * head_dim + (at % 2) * (head_dim / 2) + at / 2;
}

}  // namespace

ModelTensor::ModelTensor(TensorSpec spec, const TypeInfo& type, std::span<const std::byte> bytes)
    : spec_(std::move(spec)), type_(&type), data_(bytes) {
  spec_.transform = HfTransform::kNone;
}

uint64_t ModelTensor::n_elements() const {
  uint64_t n = 1;
  for (uint64_t d : spec_.shape) n *= d;  // checked against the file's size when it was opened
  return n;
}

uint64_t ModelTensor::size_bytes() const {
  if (base_) return base_->size_bytes() + low_rank_->size_bytes();
  uint64_t total = quantized_ ? quantized_->size_bytes() : data_.size();
  for (const ModelTensor& part : parts_) total += part.size_bytes();
  return total;
}

std::span<const std::byte> ModelTensor::raw() const {
  const bool is_whole = spec_.transform == HfTransform::kNone && spec_.hf_step == 1 && !quantized_;
  return is_whole ? data_ : std::span<const std::byte>();
}

ModelTensor ModelTensor::matrix(uint64_t index) const {
  if (!parts_.empty()) return parts_[index];
  ModelTensor view = *this;
  if (n_matrices() == 1) return view;
  view.spec_.shape = {spec_.shape[spec_.shape.size() - 2], n_cols()};
  const uint64_t bytes = data_.size() / n_matrices();
  view.data_ = data_.subspan(index * bytes, bytes);
  return view;
}

ModelTensor ModelTensor::with_low_rank(std::shared_ptr<const LowRank> addition) const {
  const uint64_t n = n_matrices();
  if (spec_.shape.size() < 2 || addition->n_rows != n_rows() || addition->n_cols != n_cols() ||
      addition->a.size() != n * addition->rank * n_cols())
    fail(ExitCode::kBadInput, "tensor {}: an adapter for {} x {}, and the matrix is {} x {}", name(), addition->n_rows,
         addition->n_cols, n_rows(), n_cols());
  ModelTensor tensor;
  tensor.spec_ = spec_;
  const bool is_float = type_->name == "F32" || type_->name == "F16" || type_->name == "BF16";
  tensor.type_ = is_float ? type_ : &type_named("F16");
  if (n > 1) {  // each matrix with its own part, copied
    const size_t a = addition->rank * n_cols(), b = n_rows() / n * addition->rank;
    for (uint64_t i = 0; i < n; ++i) {
      auto part = std::make_shared<LowRank>(LowRank{n_rows() / n, n_cols(), addition->rank, addition->scale, {}, {}});
      part->a.assign(addition->a.data() + i * a, addition->a.data() + (i + 1) * a);
      part->b.assign(addition->b.data() + i * b, addition->b.data() + (i + 1) * b);
      tensor.parts_.push_back(matrix(i).with_low_rank(std::move(part)));
    }
    return tensor;
  }
  tensor.base_ = std::make_shared<const ModelTensor>(*this);
  tensor.low_rank_ = std::move(addition);
  return tensor;
}

uint64_t ModelTensor::row_of_source(const TensorSpec& spec, uint64_t source_row) {
  const uint64_t n_rows = spec.shape.front();
  if (spec.transform == HfTransform::kRopeInterleave) {
    const uint64_t head_dim = n_rows / spec.n_heads, head = source_row / head_dim, at = source_row % head_dim;
    return head * head_dim + at % (head_dim / 2) * 2 + at / (head_dim / 2);
  }
  if (spec.transform == HfTransform::kSplitHeads) {
    const uint64_t head_dim = n_rows / 3 / spec.n_heads, head = source_row / head_dim / 3, part = source_row / head_dim % 3;
    return (part * spec.n_heads + head) * head_dim + source_row % head_dim;
  }
  return source_row;
}

void ModelTensor::read_parts(uint64_t first, uint64_t n, float* out, bool source_order) const {
  const uint64_t rows = n_rows() / parts_.size();
  for (uint64_t row = first; row < first + n;) {
    const uint64_t at = row % rows, count = std::min(first + n - row, rows - at);
    const ModelTensor& part = parts_[row / rows];
    if (source_order)
      part.read_source_rows(at, count, out);
    else
      part.read_rows(at, count, out);
    out += count * n_cols();
    row += count;
  }
}

void ModelTensor::read_rows(uint64_t first, uint64_t n, float* out) const {
  const uint64_t rows = n_rows(), cols = n_cols();
  if (first > rows || n > rows - first)
    fail(ExitCode::kUsage, "tensor {}: rows {} to {} of {} were asked for", name(), first, first + n, rows);
  if (base_) {
    base_->read_rows(first, n, out);
    return low_rank_->add_rows(first, n, out);
  }
  if (!parts_.empty()) return read_parts(first, n, out, false);
  if (quantized_) return read_quantized_rows(first, n, out);
  const auto decode = kernels().decode[type_->index];
  const uint64_t row_bytes = cols / type_->block_len * type_->block_bytes;

  if (spec_.transform == HfTransform::kNone && spec_.hf_step > 1) {  // biases
    std::vector<float> source(cols * spec_.hf_step);
    for (uint64_t i = 0; i < n; ++i) {
      decode(data_.data() + (first + i) * source.size() * type_->block_bytes, source.data(), source.size());
      for (uint64_t c = 0; c < cols; ++c) out[i * cols + c] = source[c * spec_.hf_step + spec_.hf_first];
    }
    return;
  }
  if (spec_.transform == HfTransform::kNone) {
    decode(data_.data() + first * row_bytes, out, n * cols);
    return;
  }
  if (spec_.transform == HfTransform::kRopeInterleave) {
    if (spec_.shape.size() == 1) {  // a bias: its elements are the rows
      std::vector<float> source(cols);
      decode(data_.data(), source.data(), cols);
      for (uint64_t i = 0; i < n * cols; ++i) out[i] = source[half_split_row(i, cols / spec_.n_heads)];
      return;
    }
    const uint64_t head_dim = rows / spec_.n_heads;
    for (uint64_t i = 0; i < n; ++i)
      decode(data_.data() + half_split_row(first + i, head_dim) * row_bytes, out + i * cols, cols);
    return;
  }
  if (spec_.transform == HfTransform::kAddOne) {
    decode(data_.data() + first * row_bytes, out, n * cols);
    for (uint64_t i = 0; i < n * cols; ++i) out[i] += 1;
    return;
  }
  if (spec_.transform == HfTransform::kSplitHeads) {
    if (spec_.shape.size() == 1) {  // a bias
      std::vector<float> source(cols);
      decode(data_.data(), source.data(), cols);
      for (uint64_t i = 0; i < n * cols; ++i) out[i] = source[split_heads_row(i, cols, spec_.n_heads)];
      return;
    }
    for (uint64_t i = 0; i < n; ++i)
      decode(data_.data() + split_heads_row(first + i, rows, spec_.n_heads) * row_bytes, out + i * cols, cols);
    return;
  }
  if (spec_.transform == HfTransform::kTransposeHead) {  // rows of the file are columns here
    const uint64_t block = type_->block_len, from = first / block * block, to = std::min(rows, (first + n + block - 1) / block * block);
    std::vector<float> strip(to - from);  // the blocks that hold these rows
    const uint64_t column_bytes = rows / block * type_->block_bytes;
    for (uint64_t col = 0; col < cols; ++col) {
      decode(data_.data() + col * column_bytes + from / block * type_->block_bytes, strip.data(), strip.size());
      for (uint64_t i = 0; i < n; ++i) out[i * cols + col] = strip[first - from + i];
    }
    return;
  }
  // Transposed: the file has (n_cols, n_rows · step) single elements.
  const uint64_t step = spec_.hf_step;
  std::vector<float> strip(n * step);
  for (uint64_t col = 0; col < cols; ++col) {
    decode(data_.data() + (col * rows + first) * step * type_->block_bytes, strip.data(), n * step);
    for (uint64_t i = 0; i < n; ++i) out[i * cols + col] = strip[i * step + spec_.hf_first];
  }
}

// A layout's matrix is the logical one: not transposed, but for a head's.
void ModelTensor::read_quantized_rows(uint64_t first, uint64_t n, float* out) const {
  if (spec_.transform == HfTransform::kSplitHeads) {
    for (uint64_t i = 0; i < n; ++i)
      quantized_->read_rows(split_heads_row(first + i, n_rows(), spec_.n_heads), 1, out + i * n_cols());
    return;
  }
  if (spec_.transform == HfTransform::kTransposeHead) {
    std::vector<float> columns(n_cols() * n_rows());
    quantized_->read_rows(0, n_cols(), columns.data());
    for (uint64_t i = 0; i < n; ++i)
      for (uint64_t col = 0; col < n_cols(); ++col) out[i * n_cols() + col] = columns[col * n_rows() + first + i];
    return;
  }
  if (spec_.transform != HfTransform::kRopeInterleave) return quantized_->read_rows(first, n, out);
  // Whole heads are unpacked where most of them is needed: layouts pack across rows.
  const uint64_t cols = n_cols(), head_dim = n_rows() / spec_.n_heads;
  if (2 * n < head_dim) {
    for (uint64_t i = 0; i < n; ++i)
      quantized_->read_rows(half_split_row(first + i, head_dim), 1, out + i * cols);
    return;
  }
  std::vector<float> heads(head_dim * cols);
  for (uint64_t i = 0; i < n;) {
    const uint64_t head = (first + i) / head_dim, end = std::min(n, (head + 1) * head_dim - first);
    quantized_->read_rows(head * head_dim, head_dim, heads.data());
    for (; i < end; ++i) {
      const float* row = heads.data() + (half_split_row(first + i, head_dim) - head * head_dim) * cols;
      std::copy(row, row + cols, out + i * cols);
    }
  }
}

void ModelTensor::read_source_rows(uint64_t first, uint64_t n, float* out) const {
  if (base_) {
    base_->read_source_rows(first, n, out);
    for (uint64_t i = 0; i < n; ++i) low_rank_->add_rows(row_of_source(spec_, first + i), 1, out + i * n_cols());
    return;
  }
  if (!parts_.empty()) return read_parts(first, n, out, true);
  const bool is_reordered =
      spec_.transform == HfTransform::kRopeInterleave || spec_.transform == HfTransform::kSplitHeads;
  if (!is_reordered || spec_.shape.size() == 1) return read_rows(first, n, out);
  if (first > n_rows() || n > n_rows() - first)
    fail(ExitCode::kUsage, "tensor {}: rows {} to {} of {} were asked for", name(), first, first + n, n_rows());
  if (quantized_) return quantized_->read_rows(first, n, out);
  const uint64_t row_bytes = n_cols() / type_->block_len * type_->block_bytes;
  kernels().decode[type_->index](data_.data() + first * row_bytes, out, n * n_cols());
}

void ModelTensor::release_rows(uint64_t first, uint64_t n) const {
  if (!spec_.computed.empty()) return;
  if (base_) return base_->release_rows(first, n);
  if (!parts_.empty()) {
    const uint64_t rows_of_one = n_rows() / parts_.size(), last = std::min(n_rows(), first + std::min(n, n_rows()));
    for (uint64_t row = first; row < last;) {
      const uint64_t at = row % rows_of_one, count = std::min(last - row, rows_of_one - at);
      parts_[row / rows_of_one].release_rows(at, count);
      row += count;
    }
    return;
  }
  if (quantized_) {  // rows lie across the file in some layouts: let go when the last one was read
    if (n > 0 && first + n >= n_rows())
      for (const SafeTensor* part : quantized_->parts()) release_mapped(part->data);
    return;
  }
  const uint64_t rows = n_rows();
  const uint64_t row_bytes = data_.size() / rows;
  const uint64_t end = std::min(rows, first + std::min(n, rows));
  uint64_t from = first, to = end;
  if (spec_.transform == HfTransform::kTranspose || spec_.transform == HfTransform::kTransposeHead ||
      spec_.transform == HfTransform::kSplitHeads ||
      spec_.shape.size() < 2) {
    if (first != 0 || end != rows) return;                       // every source row is touched by every row
  } else if (spec_.transform == HfTransform::kRopeInterleave) {  // whole heads only
    const uint64_t head_dim = rows / spec_.n_heads;
    from = (first + head_dim - 1) / head_dim * head_dim;
    to = end / head_dim * head_dim;
  }
  if (from < to) release_mapped(data_.subspan(from * row_bytes, (to - from) * row_bytes));
}

}  // namespace tsubu
