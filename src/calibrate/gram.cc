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
constexpr size_t kMomentColumns = 256;  // columns of one work item

size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }
size_t n_strips(size_t n) { return (n + kStripRows - 1) / kStripRows; }

// x (n_tokens, n) to panels, the columns past n zero.
void pack(const float* x, size_t ldx, size_t n_tokens, size_t n, std::vector<float>& panels, ThreadPool& pool) {
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

GramAccumulator::GramAccumulator(size_t n, size_t m, bool symmetric, std::shared_ptr<GramScratch> scratch)
    : n_(n), m_(m), symmetric_(symmetric), scratch_(std::move(scratch)) {
  if (symmetric && n != m) fail(ExitCode::kUsage, "a symmetric product of {} and {} columns", n, m);
  if (!scratch_) scratch_ = std::make_shared<GramScratch>();
  g_.resize(size_bytes(n, m, symmetric) / sizeof(double));
}

void GramAccumulator::add(const float* x, size_t ldx, const float* y, size_t ldy, size_t n_tokens, ThreadPool& pool) {
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

double GramAccumulator::at(size_t i, size_t j) const {
  const Strip s = strip(i / kStripRows);
  return g_[s.offset + (i - s.row) * s.width + (j - s.first_column)];
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
