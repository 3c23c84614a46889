// Spans of types whose groups of weights are points of a grid (codec/lattice.h): one block is one span.
#include <algorithm>
#include <vector>

#include "codec/lattice.h"
#include "kernel/kernels.h"
#include "kernel/lattice_panel.h"
#include "round/span.h"

namespace tsubu {
namespace {

constexpr size_t kLaneRows = kPanelRows;

class LatticeSpan : public Span {
 public:
  explicit LatticeSpan(const TypeInfo& type)
      : type_(type),
        n_sub_(static_cast<size_t>(type.lattice->n_sub)),
        per_group_(static_cast<size_t>(type.lattice->points_per_group)),
        bytes_(type.block_bytes),
        decoded_(kSpan) {}

  // Scales from the compensated weights, then the points in order.
  void feed(const float* w, float* t, const Curvature& c, size_t lanes, bool choose_scales) override {
    float x[kSpan];
    for (size_t l = 0; l < kLaneRows; ++l) {
      if (l < lanes) {
        for (size_t j = 0; j < kSpan; ++j) x[j] = t[j * kLaneRows + l];
        kernels().encode[type_.index](x, c.diagonal().data() + col_, bytes_.data(), kSpan);
        load(l, bytes_.data());
      } else {
        load_zeros(l);
      }
    }
    kernels().lattice_feedback[type_.index](panel_, w, t, c.m() + col_ * c.n() + col_, c.n(), c.pivots().data() + col_,
                                            choose_scales);
  }

  void load(size_t lane, const std::byte* blocks) override {
    type_.lattice->unpack(blocks, block_);
    kernels().decode[type_.index](blocks, decoded_.data(), kSpan);
    panel_.d[lane] = block_.d.value();
    for (size_t s = 0; s < n_sub_; ++s) panel_.scale[s * kLaneRows + lane] = static_cast<float>(block_.scale[s]);
    const size_t dims = kLatticeGroup / per_group_;
    for (size_t g = 0; g < kLatticeGroups; ++g) {
      panel_.shift[g * kLaneRows + lane] = block_.shift[g];
      for (size_t p = 0; p < per_group_; ++p) {
        const size_t i = (g * per_group_ + p) * kLaneRows + lane;
        panel_.point[i] = block_.code[g].point[p];
        panel_.minus[i] = block_.code[g].minus >> (p * dims) & ((1 << dims) - 1);
      }
    }
    for (size_t j = 0; j < kSpan; ++j) panel_.value[j * kLaneRows + lane] = decoded_[j];
  }
  void load_zeros(size_t lane) override {
    std::fill(bytes_.begin(), bytes_.end(), std::byte{0});
    load(lane, bytes_.data());
  }

  void store(size_t lane, std::byte* blocks) override {
    block_ = {};
    block_.d = Half::of(panel_.d[lane]);
    for (size_t s = 0; s < n_sub_; ++s) block_.scale[s] = static_cast<uint8_t>(panel_.scale[s * kLaneRows + lane]);
    const size_t dims = kLatticeGroup / per_group_;
    for (size_t g = 0; g < kLatticeGroups; ++g) {
      block_.shift[g] = panel_.shift[g * kLaneRows + lane];
      for (size_t p = 0; p < per_group_; ++p) {
        const size_t i = (g * per_group_ + p) * kLaneRows + lane;
        block_.code[g].point[p] = static_cast<uint16_t>(panel_.point[i]);
        block_.code[g].minus = static_cast<uint8_t>(block_.code[g].minus | panel_.minus[i] << (p * dims));
      }
    }
    type_.lattice->pack(block_, blocks);
  }

  void descend(float* g, const Curvature& c, bool codes_only) override {
    kernels().lattice_descend[type_.index](panel_, g, c.h() + col_ * c.n() + col_, c.n(), codes_only);
  }

  const float* values() const override { return panel_.value; }

 private:
  const TypeInfo& type_;
  size_t n_sub_, per_group_;
  std::vector<std::byte> bytes_;  // of a block
  std::vector<float> decoded_;
  LatticePanel panel_;
  LatticeBlock block_;
};

}  // namespace

std::unique_ptr<Span> make_lattice_span(const TypeInfo& type) {
  if (!type.lattice || !type.encode) return nullptr;
  return std::make_unique<LatticeSpan>(type);
}

}  // namespace tsubu
