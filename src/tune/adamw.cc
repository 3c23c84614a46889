#include "tune/adamw.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "codec/bitsandbytes.h"

namespace tsubu {
namespace {

constexpr size_t kBlock = 256;
constexpr size_t kBlocks = 64;  // of one item of work

// A map of ascending magnitudes in [0, 1] with the nearest one of any number in a few operations: the number's exponent and
// first seven bits of mantissa lead to a code, and no such cell has more than one border between codes.
class Magnitudes {
 public:
  explicit Magnitudes(std::vector<float> values) : values_(std::move(values)) {
    for (size_t i = 0; i + 1 < values_.size(); ++i) borders_.push_back(0.5f * (values_[i] + values_[i + 1]));
    borders_.push_back(2);  // nothing is above the last
    size_t code = 0;
    for (uint32_t cell = 0; cell < cells_.size(); ++cell) {
      const float low = std::bit_cast<float>((cell + kFirstCell) << kShift);
      while (low > borders_[code]) ++code;
      cells_[cell] = static_cast<uint8_t>(code);
    }
  }
  // x in [0, 1], else some code; of two that are equally near, the lower one.
  uint8_t nearest(float x) const {
    const uint32_t cell = std::clamp(std::bit_cast<uint32_t>(x) >> kShift, kFirstCell, kLastCell) - kFirstCell;
    const uint8_t code = cells_[cell];
    return static_cast<uint8_t>(code + (x > borders_[code] ? 1 : 0));
  }
  float operator[](size_t code) const { return values_[code]; }

 private:
  static constexpr int kShift = 16;
  static constexpr uint32_t kFirstCell = 0x33800000u >> kShift;  // 2^-24: below every border
  static constexpr uint32_t kLastCell = 0x3f800000u >> kShift;   // 1
  std::vector<float> values_, borders_;
  std::array<uint8_t, kLastCell - kFirstCell + 1> cells_{};
};

constexpr uint8_t kZero = 127;  // place of zero in the signed map: as many values below it, one more above

// From zero up, the values of the signed map.
const Magnitudes& first_map() {
  static const Magnitudes kMap(std::vector<float>(dynamic_map().begin() + kZero, dynamic_map().end()));
  return kMap;
}
// The unsigned map: zero, one, and decade i of seven cut into 2^(i+1) even parts, their middles.
const Magnitudes& second_map() {
  static const Magnitudes kMap = [] {
    std::vector<float> values = {0.0f, 1.0f};
    for (int i = 0; i < 7; ++i)
      for (int p = 0; p < 2 << i; ++p)
        values.push_back(static_cast<float>((0.1 + 0.9 * (p + 0.5) / (2 << i)) * std::pow(10.0, i - 6)));
    std::sort(values.begin(), values.end());
    return Magnitudes(values);
  }();
  return kMap;
}

struct Step {
  float first_decay, second_decay, epsilon, shrink, rate, one, two;

  void run(float* w, const float* g, float* m, float* v, size_t n) const {
    for (size_t i = 0; i < n; ++i) {
      m[i] = first_decay * m[i] + (1 - first_decay) * g[i];
      v[i] = second_decay * v[i] + (1 - second_decay) * g[i] * g[i];
      w[i] = shrink * w[i] - rate * (m[i] * one) / (std::sqrt(v[i] * two) + epsilon);
    }
  }
};

template <class T>
void append(std::vector<std::byte>& to, const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  to.insert(to.end(), bytes.begin(), bytes.end());
}

template <class T>
void take(std::span<const std::byte>& from, std::vector<T>& values) {
  if (values.empty()) return;
  std::memcpy(values.data(), from.data(), values.size() * sizeof(T));
  from = from.subspan(values.size() * sizeof(T));
}

size_t n_blocks(size_t n) { return (n + kBlock - 1) / kBlock; }

}  // namespace

AdamW::AdamW(size_t n, const AdamWOptions& options) : options_(options), n_(n) {
  if (!is_8bit()) {
    first_.resize(n);
    second_.resize(n);
    return;
  }
  first_codes_.resize(n, kZero);
  second_codes_.resize(n);
  first_scales_.resize(n_blocks(n));
  second_scales_.resize(n_blocks(n));
}

uint64_t AdamW::state_bytes(size_t n, const AdamWOptions& options) {
  return is_8bit(n, options) ? 2 * (n + n_blocks(n) * sizeof(float)) : 2 * n * sizeof(float);
}

void AdamW::step(std::span<float> weights, std::span<const float> gradient, double rate, uint64_t t, ThreadPool& pool) {
  if (weights.size() != n_ || gradient.size() != n_ || t == 0)
    fail(ExitCode::kUsage, "AdamW of {} parameters: step {} with {} weights and {} gradients", n_, t, weights.size(),
         gradient.size());
  const auto correction = [&](float decay) {
    return static_cast<float>(1 / (1 - std::pow(static_cast<double>(decay), static_cast<double>(t))));
  };
  const Step step{options_.first_decay,
                  options_.second_decay,
                  options_.epsilon,
                  static_cast<float>(1 - rate * static_cast<double>(options_.weight_decay)),
                  static_cast<float>(rate),
                  correction(options_.first_decay),
                  correction(options_.second_decay)};
  const Magnitudes &first = first_map(), &second = second_map();
  const float* first_values = dynamic_map().data();
  pool.parallel_for((n_ + kBlocks * kBlock - 1) / (kBlocks * kBlock), [&](size_t item, int) {
    float m[kBlock], v[kBlock];
    const size_t end = std::min(n_, (item + 1) * kBlocks * kBlock);
    for (size_t at = item * kBlocks * kBlock; at < end; at += kBlock) {
      const size_t n = std::min(kBlock, end - at), block = at / kBlock;
      if (!is_8bit()) {
        step.run(weights.data() + at, gradient.data() + at, first_.data() + at, second_.data() + at, n);
        continue;
      }
      uint8_t *m_codes = first_codes_.data() + at, *v_codes = second_codes_.data() + at;
      for (size_t i = 0; i < n; ++i) m[i] = first_values[m_codes[i]] * first_scales_[block];
      for (size_t i = 0; i < n; ++i) v[i] = second[v_codes[i]] * second_scales_[block];
      step.run(weights.data() + at, gradient.data() + at, m, v, n);
      float m_max = 0, v_max = 0;
      for (size_t i = 0; i < n; ++i) {
        m_max = std::max(m_max, std::fabs(m[i]));
        v_max = std::max(v_max, v[i]);
      }
      first_scales_[block] = m_max;
      second_scales_[block] = v_max;
      for (size_t i = 0; i < n; ++i) {
        const uint8_t place = m_max > 0 ? first.nearest(std::fabs(m[i]) / m_max) : uint8_t{0};
        m_codes[i] = static_cast<uint8_t>(m[i] < 0 ? kZero - std::min(place, kZero) : kZero + place);
      }
      for (size_t i = 0; i < n; ++i)
        v_codes[i] = v[i] > 0 ? std::max<uint8_t>(1, second.nearest(v[i] / v_max)) : uint8_t{0};
    }
  });
}

std::vector<std::byte> AdamW::save() const {
  std::vector<std::byte> bytes;
  bytes.reserve(state_bytes());
  append(bytes, first_);
  append(bytes, second_);
  append(bytes, first_codes_);
  append(bytes, second_codes_);
  append(bytes, first_scales_);
  append(bytes, second_scales_);
  return bytes;
}

void AdamW::load(std::span<const std::byte> bytes, const std::string& name) {
  if (bytes.size() != state_bytes())
    fail(ExitCode::kBadInput, "{}: the optimizer's state: expected {} bytes, found {} (another setting, or another model?)", name,
         state_bytes(), bytes.size());
  take(bytes, first_);
  take(bytes, second_);
  take(bytes, first_codes_);
  take(bytes, second_codes_);
  take(bytes, first_scales_);
  take(bytes, second_scales_);
}

}  // namespace tsubu
