#include "calibrate/gram.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "codec/lanes.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

constexpr size_t kPanel = kLanes;   // columns side by side in the lanes
constexpr size_t kStripPanels = 2;  // panels of X that one work item takes
constexpr size_t kStripRows = kStripPanels * kPanel;
constexpr size_t kWaitingPairs = kBf16Chunk / 2;
constexpr size_t kColumnStride = kWaitingPairs + kPanel;  // not a power of two: columns would share cache lines
constexpr size_t kMomentColumns = 256;  // columns of one work item

size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }
size_t n_strips(size_t n) { return (n + kStripRows - 1) / kStripRows; }

// x (n_tokens, n) to panels, the columns past n zero.
void pack(const float* x, size_t ldx, size_t n_tokens, size_t n, AlignedVector<float>& panels, ThreadPool& pool) {
  const size_t n_panels = (n + kPanel - 1) / kPanel;
  if (panels.size() < n_panels * n_tokens * kPanel) panels.resize(n_panels * n_tokens * kPanel);
  constexpr size_t kPanelsAnItem = 16;
  pool.parallel_for((n_panels + kPanelsAnItem - 1) / kPanelsAnItem, [&](size_t item, int) {
    const size_t end = std::min(n_panels, (item + 1) * kPanelsAnItem);
    for (size_t t = 0; t < n_tokens; ++t) {
      for (size_t p = item * kPanelsAnItem; p < end; ++p) {
        float* to = panels.data() + (p * n_tokens + t) * kPanel;
        const float* from = x + t * ldx + p * kPanel;
        const size_t columns = std::min(kPanel, n - p * kPanel);
        if (columns == kPanel) {
          std::memcpy(to, from, kPanel * sizeof(float));
        } else {
          std::copy_n(from, columns, to);
          std::fill(to + columns, to + kPanel, 0.0f);
        }
      }
    }
  });
}

}  // namespace

// Rows [row, row + rows), columns from first_column on; `offset` doubles into the sums, `width` doubles a row.
struct GramAccumulator::Strip {
  size_t row, rows, first_column, width, offset;
};

GramAccumulator::Strip GramAccumulator::strip(size_t i) const {
  const size_t row = i * kStripRows, columns = round_up(m_, kPanel);
  const size_t rows = std::min(kStripRows, round_up(n_, kPanel) - row);
  if (!symmetric_) return {row, rows, 0, columns, row * columns};
  // Before it: whole strips of columns, columns - kStripRows, … columns.
  const size_t narrower = i == 0 ? 0 : kStripRows * (i * (i - 1) / 2);
  return {row, rows, row, columns - row, kStripRows * (i * columns - narrower)};
}

uint64_t GramAccumulator::size_bytes(size_t n, size_t m, bool symmetric) {
  const uint64_t rows = round_up(n, kPanel), columns = round_up(m, kPanel);
  if (!symmetric) return rows * columns * sizeof(double);
  uint64_t doubles = 0;
  for (uint64_t row = 0; row < rows; row += kStripRows)
    doubles += std::min<uint64_t>(kStripRows, rows - row) * (columns - row);
  return doubles * sizeof(double);
}

GramAccumulator::GramAccumulator(size_t n, size_t m, bool symmetric, std::shared_ptr<GramScratch> scratch,
                                 Products products)
    : n_(n), m_(m), symmetric_(symmetric), scratch_(std::move(scratch)), products_(products) {
  if (symmetric && n != m) fail(ExitCode::kUsage, "a symmetric product of {} and {} columns", n, m);
  if (!scratch_) scratch_ = std::make_shared<GramScratch>();
  const size_t n_sums = size_bytes(n, m, symmetric) / sizeof(double);
  if (products == Products::kF32)
    g_.resize(n_sums);
  else
    g_of_bf16_.resize(n_sums);
}

void GramAccumulator::add(const float* x, size_t ldx, const float* y, size_t ldy, size_t n_tokens, ThreadPool& pool) {
  if (products_ == Products::kBf16) return add_bf16(x, ldx, y, ldy, n_tokens, pool);
  const size_t n_panels = (m_ + kPanel - 1) / kPanel;
  for (size_t begin = 0; begin < n_tokens; begin += kGramChunk) {
    const size_t n = std::min(kGramChunk, n_tokens - begin);
    pack(x + begin * ldx, ldx, n, n_, scratch_->x, pool);
    if (!symmetric_) pack(y + begin * ldy, ldy, n, m_, scratch_->y, pool);
    const float* px = scratch_->x.data();
    const float* py = symmetric_ ? px : scratch_->y.data();
    pool.parallel_for(n_strips(n_), [&](size_t i, int) {
      const Strip s = strip(i);
      const size_t first_panel = s.first_column / kPanel;
      kernels().gram(px + s.row * n, s.rows / kPanel, py + s.first_column * n, n_panels - first_panel, n,
                     g_.data() + s.offset, s.width);
    });
  }
  n_tokens_ += n_tokens;
}

void GramAccumulator::add_bf16(const float* x, size_t ldx, const float* y, size_t ldy, size_t n_tokens,
                               ThreadPool& pool) {
  // Rows [first, first + count) of `from`, filled up with zeros to whole squares of pairs.
  const auto pack_pairs = [&](const float* from, size_t ld, size_t width, size_t first, size_t count,
                              AlignedVector<uint32_t>& to, bool by_column) {
    const size_t n_panels = (width + kPanel - 1) / kPanel, panel_words = kPanel * (by_column ? kColumnStride : kWaitingPairs);
    if (to.size() != n_panels * panel_words) to.assign(n_panels * panel_words, 0);
    const size_t first_pair = waiting_.n / 2, n_pairs = round_up(count, 2 * kPanel) / 2;
    // Some panels together: a token's columns are then read as a run of cache lines.
    constexpr size_t kPanelsAnItem = 8;
    pool.parallel_for((n_panels + kPanelsAnItem - 1) / kPanelsAnItem, [&](size_t item, int) {
      const size_t first_panel = item * kPanelsAnItem, last_panel = std::min(n_panels, first_panel + kPanelsAnItem);
      alignas(64) float padded[2][kPanel] = {};
      alignas(64) uint32_t squares[kPanelsAnItem][kPanel * kPanel];
      for (size_t k = 0; k < n_pairs; ++k) {
        for (size_t p = first_panel; p < last_panel; ++p) {
          const size_t columns = std::min(kPanel, width - p * kPanel);
          const float* rows[2];
          for (size_t i = 0; i < 2; ++i) {
            const bool there = 2 * k + i < count;
            const float* row = there ? from + (first + 2 * k + i) * ld + p * kPanel : nullptr;
            rows[i] = padded[i];
            if (there && columns == kPanel) {
              rows[i] = row;
              continue;
            }
            std::fill(padded[i], padded[i] + kPanel, 0.0f);
            if (there) std::copy_n(row, columns, padded[i]);
          }
          uint32_t* const panel = to.data() + p * panel_words;
          uint32_t* const square = squares[p - first_panel];
          kernels().pair_rows_bf16(rows[0], rows[1], kPanel,
                                   by_column ? square + k % kPanel * kPanel : panel + (first_pair + k) * kPanel);
          if (by_column && (k + 1) % kPanel == 0)
            kernels().transpose_pairs(square, kPanel, panel + first_pair + k + 1 - kPanel, kColumnStride);
        }
      }
    });
  };
  for (size_t begin = 0; begin < n_tokens;) {
    const size_t count = std::min(kBf16Chunk - waiting_.n, n_tokens - begin);
    pack_pairs(x, ldx, n_, begin, count, waiting_.x_columns, true);
    pack_pairs(symmetric_ ? x : y, symmetric_ ? ldx : ldy, m_, begin, count, waiting_.y_panels, false);
    waiting_.n = round_up(waiting_.n + count, 2 * kPanel);
    begin += count;
    if (waiting_.n == kBf16Chunk) multiply_waiting(pool);
  }
  n_tokens_ += n_tokens;
}

void GramAccumulator::multiply_waiting(ThreadPool& pool) {
  const size_t n_panels = (m_ + kPanel - 1) / kPanel, n_pairs = waiting_.n / 2;
  if (n_pairs == 0) return;
  if (n_pairs < kWaitingPairs)  // what an earlier chunk left
    for (auto* part : {&waiting_.x_columns, &waiting_.y_panels}) {
      const bool by_column = part == &waiting_.x_columns;
      const size_t stride = by_column ? kColumnStride : kWaitingPairs * kPanel;
      const size_t used = by_column ? n_pairs : n_pairs * kPanel;
      for (size_t i = 0; i < part->size(); i += stride) std::fill_n(part->data() + i + used, stride - used, 0u);
    }
  // Squares of the sums: the panels of one are read once for kStripsAtOnce strips.
  constexpr size_t kPanelsAtOnce = 8, kStripsAtOnce = 4;
  pool.parallel_for((n_strips(n_) + kStripsAtOnce - 1) / kStripsAtOnce, [&](size_t item, int) {
    const size_t begin = item * kStripsAtOnce, end = std::min(n_strips(n_), begin + kStripsAtOnce);
    const Strip top = strip(begin), bottom = strip(end - 1);
    alignas(64) float products[kStripsAtOnce * kStripRows * kPanelsAtOnce * kPanel];
    for (size_t p = top.first_column / kPanel; p < n_panels; p += kPanelsAtOnce) {
      const size_t count = std::min(kPanelsAtOnce, n_panels - p), width = count * kPanel;
      kernels().products_bf16(waiting_.x_columns.data() + top.row * kColumnStride, kColumnStride,
                              waiting_.y_panels.data() + p * kPanel * kWaitingPairs, count, kWaitingPairs,
                              bottom.row + bottom.rows - top.row, products, width);
      for (size_t i = begin; i < end; ++i) {
        const Strip s = strip(i);
        // A square on the diagonal reaches below it.
        const size_t below = s.first_column > p * kPanel ? std::min(width, s.first_column - p * kPanel) : 0;
        if (below == width) continue;
        for (size_t r = 0; r < s.rows; ++r) {
          const float* from = products + (s.row - top.row + r) * width;
          float* g = g_of_bf16_.data() + s.offset + r * s.width + (p * kPanel + below - s.first_column);
          kernels().add(g, from + below, g, width - below);
        }
      }
    }
  });
  waiting_.n = 0;
}

void GramAccumulator::flush(ThreadPool& pool) {
  multiply_waiting(pool);
  waiting_ = {};
}

double GramAccumulator::at(size_t i, size_t j) const {
  const Strip s = strip(i / kStripRows);
  const size_t index = s.offset + (i - s.row) * s.width + (j - s.first_column);
  return products_ == Products::kF32 ? g_[index] : static_cast<double>(g_of_bf16_[index]);
}

void GramAccumulator::finish_row(size_t i, std::span<float> out) const {
  const size_t first = symmetric_ ? i : 0;
  for (size_t j = first; j < m_; ++j) out[j - first] = static_cast<float>(at(i, j));
}

void GramAccumulator::finish(std::span<float> out) const {
  for (size_t i = 0; i < n_; ++i) {
    const size_t first = symmetric_ ? i : 0;
    finish_row(i, out.subspan(i * m_ + first, m_ - first));
    if (symmetric_)
      for (size_t j = i + 1; j < m_; ++j) out[j * m_ + i] = out[i * m_ + j];
  }
}

void GramAccumulator::clear() {
  std::fill(g_.begin(), g_.end(), 0.0);
  std::fill(g_of_bf16_.begin(), g_of_bf16_.end(), 0.0f);
  waiting_ = {};
  n_tokens_ = 0;
}

void GramAccumulator::restore(std::span<const double> sums, uint64_t n_tokens) {
  if (sums.size() != g_.size()) fail(ExitCode::kUsage, "{} saved sums for {}", sums.size(), g_.size());
  std::copy(sums.begin(), sums.end(), g_.begin());
  n_tokens_ = n_tokens;
}

void ColumnMoments::add(const float* x, size_t ldx, size_t n_tokens, ThreadPool& pool) {
  const size_t n_items = (n_cols() + kMomentColumns - 1) / kMomentColumns;
  for (size_t begin = 0; begin < n_tokens; begin += kGramChunk) {
    const size_t n = std::min(kGramChunk, n_tokens - begin);
    pool.parallel_for(n_items, [&](size_t item, int) {
      const size_t c = item * kMomentColumns;
      kernels().column_moments(x + begin * ldx + c, ldx, n, std::min(kMomentColumns, n_cols() - c), sum_.data() + c,
                               squares_.data() + c, max_.data() + c);
    });
  }
  n_tokens_ += n_tokens;
}

void ColumnMoments::restore(std::span<const double> sum, std::span<const double> squares,
                            std::span<const float> max_abs, uint64_t n_tokens) {
  if (sum.size() != n_cols() || squares.size() != n_cols() || max_abs.size() != n_cols())
    fail(ExitCode::kUsage, "{} saved moments for {} columns", sum.size(), n_cols());
  std::copy(sum.begin(), sum.end(), sum_.begin());
  std::copy(squares.begin(), squares.end(), squares_.begin());
  std::copy(max_abs.begin(), max_abs.end(), max_.begin());
  n_tokens_ = n_tokens;
}

}  // namespace tsubu
