// Checks of the numbers in a checkpoint: scales, codes, floats, types.
#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/progress.h"
#include "codec/sanity.h"
#include "pipeline/lint.h"

namespace tsubu {
namespace {

using L = LintLevel;

// A linear passes numbers of size 1 on as numbers of about the root mean square of its weights times √inputs. Trained ones lie
// between hundredths and tens; a scale that was stored as its reciprocal is orders of magnitude beyond that.
constexpr double kMostGain = 1e3, kLeastGain = 1e-5;

constexpr uint64_t kPieceValues = uint64_t{1} << 16;

// The tail of a name after the layer's number: tensors of all layers with the same one do the same.
std::string role_of(const std::string& name) {
  std::string role = name;
  for (size_t i = 0; i + 1 < role.size(); ++i)
    if (role[i] == '.' && role[i + 1] >= '0' && role[i + 1] <= '9') {
      size_t end = i + 1;
      while (end < role.size() && role[end] >= '0' && role[end] <= '9') ++end;
      role.replace(i + 1, end - i - 1, "N");
    }
  return role;
}

bool is_plain_float(const SafeTensor& t) { return is_float(t); }

}  // namespace

void lint_modules(const LintSubject&, std::span<const ModuleStatistics> modules, const Report& report) {
  std::map<std::string, std::vector<double>> rms_of;
  for (const ModuleStatistics& m : modules) rms_of[role_of(m.name)].push_back(m.rms);
  for (const ModuleStatistics& m : modules) {
    const auto share = [&](uint64_t n) { return static_cast<double>(n) / static_cast<double>(m.n_groups); };
    if (m.n_bad_scales > 0)
      report(L::kError, m.name, fmt::format("{} of {} scales are NaN or infinite", m.n_bad_scales, m.n_groups));
    if (m.n_zero_scales > 0)
      report(share(m.n_zero_scales) > 0.01 ? L::kError : L::kWarning, m.name,
             fmt::format("{} of {} scales are 0: their weights are lost", m.n_zero_scales, m.n_groups));
    if (m.n_negative_scales > 0 && share(m.n_negative_scales) < 0.001)
      report(L::kWarning, m.name, fmt::format("{} of {} scales are negative", m.n_negative_scales, m.n_groups));
    if (m.n_dead_groups > 0)
      report(share(m.n_dead_groups) > 0.5 ? L::kError : L::kWarning, m.name,
             fmt::format("{} of {} groups are dead: every weight in them is 0", m.n_dead_groups, m.n_groups));
    if (share(m.n_saturated_groups) > 0.2)
      report(L::kWarning, m.name, fmt::format("{} of {} groups are saturated: a quarter or more of their codes lie on the outermost levels",
                                              m.n_saturated_groups, m.n_groups));
    if (m.n_codes_used * 2 < m.n_codes && m.n_codes <= 16 && m.n_weights > 4096)
      report(L::kWarning, m.name, fmt::format("only {} of {} codes are used: fewer bits would do, or they are read in a wrong way",
                                              m.n_codes_used, m.n_codes));
    const double gain = m.rms * std::sqrt(static_cast<double>(m.n_inputs));
    if (std::isfinite(gain) && (gain > kMostGain || (gain < kLeastGain && gain > 0)))
      report(gain > kMostGain ? L::kError : L::kWarning, m.name,
             fmt::format("its weights have a root mean square of {:.3g}: {} inputs of size 1 give outputs of {:.3g}; a scale may be upside "
                         "down (its reciprocal was expected)", m.rms, m.n_inputs, gain));
    std::vector<double> others = rms_of[role_of(m.name)];
    if (others.size() < 3 || !std::isfinite(m.rms)) continue;
    std::nth_element(others.begin(), others.begin() + static_cast<ptrdiff_t>(others.size() / 2), others.end());
    const double median = others[others.size() / 2];
    if (median > 0 && (m.rms > 20 * median || m.rms * 20 < median))
      report(L::kWarning, m.name, fmt::format("its weights have a root mean square of {:.3g}, those of its kind {:.3g}", m.rms, median));
  }
}

void lint_floats(const LintSubject& s, const Report& report) {
  if (!s.directory) return;
  for (const SafeTensor& t : s.directory->weights.tensors()) {
    throw_if_interrupted();
    if (!is_plain_float(t) || s.directory->quantized.parts.contains(t.name) || is_activation_scale(t.name)) continue;
    const TypeInfo& type = type_of_floats(t);
    const uint64_t n = t.data.size() / type.block_bytes;
    if (n == 0) continue;
    std::vector<uint64_t> bad((n + kPieceValues - 1) / kPieceValues), nonzero(bad.size());
    s.pool->parallel_for(bad.size(), [&](size_t item, int) {
      const uint64_t first = item * kPieceValues, count = std::min(kPieceValues, n - first);
      std::vector<float> x(count);
      type.decode(t.data.data() + first * type.block_bytes, x.data(), count);
      for (float v : x) {
        bad[item] += (std::bit_cast<uint32_t>(v) & 0x7f800000u) == 0x7f800000u;
        nonzero[item] += v != 0;
      }
    });
    uint64_t n_bad = 0, n_nonzero = 0;
    for (size_t i = 0; i < bad.size(); ++i) {
      n_bad += bad[i];
      n_nonzero += nonzero[i];
    }
    if (n_bad > 0) report(L::kError, t.name, fmt::format("{} of {} values are NaN or infinite", n_bad, n));
    if (n_nonzero == 0 && !t.name.ends_with(".bias"))
      report(t.shape.size() > 1 ? L::kError : L::kWarning, t.name, "every value is 0");
  }
}

void lint_gguf_blocks(const LintSubject& s, const Report& report) {
  if (!s.gguf) return;
  for (const GgufTensor& t : s.gguf->tensors()) {
    throw_if_interrupted();
    if (!t.type->decode) {
      report(L::kWarning, t.name, fmt::format("type {} cannot be decoded", t.type->name));
      continue;
    }
    if (const auto block = first_invalid_block(*t.type, t.data))
      report(L::kError, t.name, fmt::format("block {} of {} ({}): a scale is NaN or infinite", *block, t.data.size() / t.type->block_bytes, t.type->name));
    if (t.shape.size() < 2) continue;
    // A tensor of zeros: its first rows say it.
    const uint64_t cols = t.shape.back(), n_bytes = cols / t.type->block_len * t.type->block_bytes;
    const uint64_t rows = std::min<uint64_t>(64, t.data.size() / std::max<uint64_t>(1, n_bytes));
    std::vector<float> x(rows * cols);
    if (rows == 0) continue;
    t.type->decode(t.data.data(), x.data(), rows * cols);
    if (std::all_of(x.begin(), x.end(), [](float v) { return v == 0; }))
      report(L::kError, t.name, fmt::format("its first {} rows are 0", rows));
  }
}

void lint_types(const LintSubject& s, const Report& report) {
  const auto check = [&](const std::string& name, bool few_bits, const std::string& type) {
    const bool is_vector = name.find("norm") != std::string::npos || name.ends_with(".bias");
    if (is_vector && few_bits) report(L::kWarning, name, fmt::format("a norm or bias in {}: expected F32, F16 or BF16", type));
  };
  std::map<std::string, std::map<std::string, std::vector<std::string>>> types_of;  // role → type → names
  if (s.gguf) {
    for (const GgufTensor& t : s.gguf->tensors()) {
      check(t.name, t.type->is_quantized, std::string(t.type->name));
      if (t.shape.size() > 1) types_of[role_of(t.name)][std::string(t.type->name)].push_back(t.name);
    }
  } else if (s.directory) {
    for (const SafeTensor& t : s.directory->weights.tensors()) {
      if (s.directory->quantized.parts.contains(t.name) || is_activation_scale(t.name)) continue;
      check(t.name, !is_float(t), std::string(safe_dtype_name(t.dtype)));
      if (t.shape.size() > 1) types_of[role_of(t.name)]["float"].push_back(t.name);
    }
    for (const auto& [name, module] : s.directory->quantized.by_name)
      types_of[role_of(name + ".weight")][module.matrix->kind()].push_back(name);
  }
  for (const auto& [role, types] : types_of) {
    if (types.size() < 2 || role.find(".N.") == std::string::npos) continue;
    size_t total = 0, most = 0;
    for (const auto& [type, names] : types) {
      total += names.size();
      most = std::max(most, names.size());
    }
    // One or two layers in another type by intention are many recipes' way: said, not judged; floats among codes are more.
    for (const auto& [type, names] : types)
      if (names.size() < most && names.size() * 4 <= total)
        report(type == "float" ? L::kWarning : L::kNote, names.front(),
               fmt::format("{} of {} tensors {} are {}, unlike the rest", names.size(), total, role, type));
  }
}

void lint_fused_scales(const LintSubject& s, const Report& report) {
  if (!s.directory) return;
  for (const auto& [first, others] : {std::pair<std::string, std::vector<std::string>>{".self_attn.q_proj", {".self_attn.k_proj", ".self_attn.v_proj"}},
                                      {".mlp.gate_proj", {".mlp.up_proj"}}})
    for (const auto& [name, module] : s.directory->quantized.by_name) {
      if (!name.ends_with(first)) continue;
      const std::string block = name.substr(0, name.size() - first.size());
      for (const std::string& other : others) {
        const QuantizedModule* fused = s.directory->quantized.find(block + other);
        if (!fused || fused->layout != module.layout) {
          report(L::kWarning, block + other, fmt::format("is {}, {} is {}: runtimes fuse both", fused ? fused->layout->name : "float", name, module.layout->name));
          continue;
        }
        for (const char* suffix : {".weight_global_scale", ".weight_scale_2"}) {
          const SafeTensor* a = s.directory->weights.find(name + suffix);
          const SafeTensor* b = s.directory->weights.find(block + other + suffix);
          if (a && b && a->data.size() == 4 && b->data.size() == 4 && number_at(*a, 0) != number_at(*b, 0))
            report(L::kWarning, block + other, fmt::format("global scale {} differs from {} of {}: vLLM fuses both and takes one", number_at(*b, 0), number_at(*a, 0), name));
        }
      }
    }
}

}  // namespace tsubu
