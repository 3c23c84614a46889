#include "pipeline/carry_codes.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/half.h"
#include "codec/grid.h"
#include "codec/mxfp4.h"

namespace tsubu {
namespace {

// The layout's row that lies at a row of GGUF's.
uint64_t source_row(const ModelTensor& t, uint64_t row) {
  if (t.spec().transform != HfTransform::kRopeInterleave) return row;
  const uint64_t head_dim = t.n_rows() / t.spec().n_heads, head = row / head_dim, at = row % head_dim;
  return head * head_dim + at % 2 * (head_dim / 2) + at / 2;
}

bool is_half(float x) { return std::isfinite(x) && f16_to_f32(f32_to_f16(x)) == x; }

bool integer_levels(const QuantMatrix& m) {
  for (int c = 0; c < 1 << m.code_bits(); ++c) {
    const float level = m.levels()[static_cast<size_t>(c)];
    if (!(level == std::nearbyint(level))) return false;
  }
  return true;
}

// One scale for a block, levels that are consecutive integers, and a minimum or none.
bool takes_integers(const GridSpec& grid) {
  return grid.even && grid.n_sub == 1 && !grid.has_scales() && grid.scale_low == 1 && !grid.has_mins();
}

// Both are E2M1 under powers of two; ggml reads the scale that stands for NaN as a number.
bool can_carry_mxfp4(const QuantMatrix& m) {
  std::vector<float> scales(m.n_groups()), zeros(m.n_groups());
  for (uint64_t row = 0; row < m.n_rows(); ++row) {
    m.read_scales(row, 1, scales.data(), zeros.data());
    for (float s : scales)
      if (!std::isfinite(s)) return false;
  }
  return true;
}

void carry_mxfp4(const QuantMatrix& m, uint64_t row, std::vector<uint8_t>& codes, std::vector<float>& scales,
                 std::vector<float>& zeros, std::byte* blocks) {
  m.read_codes(row, 1, codes.data());
  m.read_scales(row, 1, scales.data(), zeros.data());
  for (uint64_t g = 0; g < m.n_groups(); ++g) {
    auto& block = reinterpret_cast<MXFP4::Block*>(blocks)[g];
    const uint8_t* c = codes.data() + g * MXFP4::kBlockLen;
    block.e = static_cast<uint8_t>(std::ilogb(scales[g]) + 127);
    for (int j = 0; j < 16; ++j) block.qs[j] = static_cast<uint8_t>(c[j] | c[j + 16] << 4);
  }
}

}  // namespace

bool can_carry_codes(const ModelTensor& t, const TypeInfo& type) {
  if (t.n_matrices() > 1 && t.raw().empty()) {  // the matrices of experts, each as it is
    for (uint64_t e = 0; e < t.n_matrices(); ++e) {
      const ModelTensor part = t.matrix(e);
      if (!part.quantized() || !can_carry_codes(part, type)) return false;
    }
    return true;
  }
  if (t.spec().transform == HfTransform::kTransposeHead) return false;  // groups of rows
  const QuantMatrix* m = t.quantized();
  if (m && m->kind() == "mxfp4" && type.name == MXFP4::kName) return can_carry_mxfp4(*m);
  if (!m || !type.grid || !takes_integers(type.grid->spec) || !m->group_of_column().empty() || !integer_levels(*m)) return false;
  const GridSpec& grid = type.grid->spec;
  const auto block = static_cast<uint64_t>(grid.block_len);
  if (m->n_cols() % block != 0 || m->group_columns() % block != 0) return false;
  float low = m->levels()[0], high = low;
  for (int c = 0; c < 1 << m->code_bits(); ++c) {
    low = std::min(low, m->levels()[static_cast<size_t>(c)]);
    high = std::max(high, m->levels()[static_cast<size_t>(c)]);
  }
  if (high - low + 1 != static_cast<float>(grid.n_levels)) return false;
  std::vector<float> scales(m->n_groups()), zeros(m->n_groups());
  for (uint64_t row = 0; row < m->n_rows(); ++row) {
    m->read_scales(row, 1, scales.data(), zeros.data());
    for (uint64_t g = 0; g < m->n_groups(); ++g) {
      if (!is_half(scales[g])) return false;
      if (grid.has_offset() ? !is_half(scales[g] * (zeros[g] - low)) : low - zeros[g] != grid.levels[0]) return false;
    }
  }
  return true;
}

void carry_codes(const ModelTensor& t, const TypeInfo& type, uint64_t first, uint64_t n, std::byte* blocks) {
  if (t.n_matrices() > 1) {
    const uint64_t rows = t.n_rows() / t.n_matrices(), row_bytes = t.n_cols() / type.block_len * type.block_bytes;
    while (n > 0) {
      const uint64_t at = first % rows, count = std::min(n, rows - at);
      carry_codes(t.matrix(first / rows), type, at, count, blocks);
      first += count;
      n -= count;
      blocks += count * row_bytes;
    }
    return;
  }
  const QuantMatrix& m = *t.quantized();
  if (type.name == MXFP4::kName) {
    std::vector<uint8_t> codes(m.n_cols());
    std::vector<float> scales(m.n_groups()), zeros(m.n_groups());
    for (uint64_t i = 0; i < n; ++i)
      carry_mxfp4(m, source_row(t, first + i), codes, scales, zeros, blocks + i * m.n_groups() * type.block_bytes);
    return;
  }
  const GridSpec& grid = type.grid->spec;
  const auto block_len = static_cast<uint64_t>(grid.block_len);
  const float low = *std::min_element(m.levels().begin(), m.levels().begin() + (1 << m.code_bits()));
  std::vector<uint8_t> codes(m.n_cols());
  std::vector<float> scales(m.n_groups()), zeros(m.n_groups());
  GridBlock block;
  block.scale[0] = 1;
  block.min[0] = static_cast<int16_t>(grid.min_low);
  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t row = source_row(t, first + i);
    m.read_codes(row, 1, codes.data());
    m.read_scales(row, 1, scales.data(), zeros.data());
    for (uint64_t k = 0; k < m.n_cols(); k += block_len) {
      const uint64_t g = k / m.group_columns();
      block.d = Half::of_bits(f32_to_f16(scales[g]));
      block.dmin = Half::of_bits(grid.has_offset() ? f32_to_f16(scales[g] * (zeros[g] - low)) : uint16_t{0});
      for (uint64_t j = 0; j < block_len; ++j) block.codes[j] = static_cast<uint8_t>(m.levels()[codes[k + j]] - low);
      type.grid->pack(block, blocks);
      blocks += type.block_bytes;
    }
  }
}

}  // namespace tsubu
