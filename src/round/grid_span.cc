// Spans of types whose weights have codes of their own (codec/grid.h).
#include <vector>

#include "codec/grid.h"
#include "kernel/kernels.h"
#include "round/span.h"

namespace tsubu {
namespace {

constexpr size_t kLaneRows = kPanelRows;

class GridSpan : public Span {
 public:
  explicit GridSpan(const TypeInfo& type)
      : type_(type), spec_(type.grid->spec), len_(type.block_len), bytes_(type.block_bytes) {
    panel_.spec = &spec_;
  }

  // For each block, scales from the compensated weights, then its columns in order.
  void feed(const float* w, float* t, const Curvature& c, size_t lanes, bool choose_scales) override {
    panel_.n_cols = static_cast<int>(n_cols_);
    float x[kMaxGridBlock];
    for (size_t b = 0; b < n_cols_ / len_; ++b) {
      for (size_t l = 0; l < kLaneRows; ++l) {
        for (size_t j = 0; j < len_; ++j) x[j] = t[(b * len_ + j) * kLaneRows + l];
        if (l < lanes)
          kernels().encode[type_.index](x, c.diagonal().data() + col_ + b * len_, bytes_.data(), len_);
        else if (l == lanes)
          kernels().encode[type_.index](x, nullptr, bytes_.data(), len_);
        type_.grid->unpack(bytes_.data(), block_);
        set_scales(b, l);
      }
      kernels().grid_feedback(panel_, static_cast<int>(b), w, t, c.m() + col_ * c.n() + col_, c.n(),
                              c.pivots().data() + col_, choose_scales);
    }
  }

  void load(size_t lane, const std::byte* blocks) override {
    for (size_t b = 0; b < n_cols_ / len_; ++b) {
      type_.grid->unpack(blocks + b * type_.block_bytes, block_);
      set_block(b, lane);
    }
  }
  void load_zeros(size_t lane) override {
    block_ = {};
    for (size_t b = 0; b < n_cols_ / len_; ++b) set_block(b, lane);
  }

  void store(size_t lane, std::byte* blocks) override {
    const size_t n_sub = static_cast<size_t>(spec_.n_sub);
    for (size_t b = 0; b < n_cols_ / len_; ++b) {
      block_.d = Half::of(panel_.d[b * kLaneRows + lane]);
      block_.dmin = Half::of(panel_.dmin[b * kLaneRows + lane]);
      for (size_t i = 0; i < n_sub; ++i) {
        block_.scale[i] = static_cast<int16_t>(panel_.scale[(b * n_sub + i) * kLaneRows + lane]);
        block_.min[i] = static_cast<int16_t>(panel_.min[(b * n_sub + i) * kLaneRows + lane]);
      }
      for (size_t j = 0; j < len_; ++j) block_.codes[j] = code_of(panel_.level[(b * len_ + j) * kLaneRows + lane]);
      type_.grid->pack(block_, blocks + b * type_.block_bytes);
    }
  }

  void descend(float* g, const Curvature& c, bool codes_only) override {
    panel_.n_cols = static_cast<int>(n_cols_);
    kernels().grid_descend(panel_, g, c.h() + col_ * c.n() + col_, c.n(), 1, codes_only);
  }

  bool couple(const float* coupling, float bound) override {
    panel_.coupling = coupling;
    panel_.bound = coupling ? bound : 1;
    return true;
  }

  const float* values() const override { return panel_.value; }

 private:
  void set_scales(size_t block, size_t lane) {
    panel_.d[block * kLaneRows + lane] = block_.d.value();
    panel_.dmin[block * kLaneRows + lane] = block_.dmin.value();
    for (size_t i = 0; i < static_cast<size_t>(spec_.n_sub); ++i) {
      const size_t sub = block * static_cast<size_t>(spec_.n_sub) + i;
      panel_.scale[sub * kLaneRows + lane] = static_cast<float>(block_.scale[i]);
      panel_.min[sub * kLaneRows + lane] = static_cast<float>(block_.min[i]);
    }
  }

  void set_block(size_t block, size_t lane) {
    set_scales(block, lane);
    const size_t sub_len = static_cast<size_t>(spec_.sub_len);
    for (size_t j = 0; j < len_; ++j) {
      const size_t i = (block * len_ + j) * kLaneRows + lane;
      const float factor = block_.d.value() * static_cast<float>(block_.scale[j / sub_len]);
      const float offset = block_.dmin.value() * static_cast<float>(block_.min[j / sub_len]);
      panel_.level[i] = spec_.levels[block_.codes[j]];
      panel_.value[i] = factor * panel_.level[i] - offset;
    }
  }

  uint8_t code_of(float level) const {
    if (spec_.even) return static_cast<uint8_t>(static_cast<int>(level - spec_.levels[0]));
    int code = 0;
    while (code + 1 < spec_.n_levels && spec_.levels[code] != level) ++code;
    return static_cast<uint8_t>(code);
  }

  const TypeInfo& type_;
  const GridSpec& spec_;
  size_t len_;
  std::vector<std::byte> bytes_;  // of a block
  GridPanel panel_;
  GridBlock block_;
};

}  // namespace

std::unique_ptr<Span> make_grid_span(const TypeInfo& type) {
  if (!type.grid || !type.encode) return nullptr;
  return std::make_unique<GridSpan>(type);
}

}  // namespace tsubu
