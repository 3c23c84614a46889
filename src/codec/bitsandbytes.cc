// Double quantization of scales; see bitsandbytes.h.
#include "codec/bitsandbytes.h"

#include <algorithm>
#include <cmath>

namespace tsubu {

const std::vector<float>& dynamic_map() {
  // Signed: decades 10^-6 … 1, decade i cut into 2^i even parts from a tenth to one, their middles; zero; one.
  static const std::vector<float> kMap = [] {
    std::vector<float> map = {0.0f, 1.0f};
    for (int i = 0; i < 7; ++i) {
      const int parts = 1 << i;
      for (int p = 0; p < parts; ++p) {
        const double middle = (0.1 + 0.9 * (p + 0.5) / parts) * std::pow(10.0, i - 6);
        map.push_back(static_cast<float>(middle));
        map.push_back(static_cast<float>(-middle));
      }
    }
    std::sort(map.begin(), map.end());
    return map;
  }();
  return kMap;
}

DoubleQuantized double_quantize_scales(std::span<const float> scales) {
  DoubleQuantized d;
  double sum = 0;
  for (float s : scales) sum += static_cast<double>(s);
  d.offset = scales.empty() ? 0 : static_cast<float>(sum / static_cast<double>(scales.size()));
  const std::vector<float>& map = dynamic_map();
  const auto nearest = [&](float x) {  // the lower one of two that are equally near
    const auto above = std::lower_bound(map.begin(), map.end(), x);
    if (above == map.begin()) return size_t{0};
    if (above == map.end()) return map.size() - 1;
    const auto i = static_cast<size_t>(above - map.begin());
    return x > 0.5f * (map[i - 1] + map[i]) ? i : i - 1;
  };
  for (size_t first = 0; first < scales.size(); first += kNestedBlock) {
    const auto block = scales.subspan(first, std::min<size_t>(kNestedBlock, scales.size() - first));
    float absmax = 0;
    for (float s : block) absmax = std::max(absmax, std::fabs(s - d.offset));
    d.absmax.push_back(absmax);
    for (float s : block) d.codes.push_back(static_cast<uint8_t>(nearest(absmax > 0 ? (s - d.offset) / absmax : 0.0f)));
  }
  return d;
}

}  // namespace tsubu
