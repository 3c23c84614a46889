#include "cli/quantize_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/size.h"
#include "cli/output.h"
#include "cli/table.h"

namespace tsubu {
namespace {

constexpr size_t kWorstShown = 5;

uint64_t element_count(const QuantizedTensor& tensor) {
  uint64_t n = 1;
  for (uint64_t d : tensor.shape) n *= d;
  return n;
}

std::string percent(double share) { return fmt::format("{:.3g} %", 100 * share); }

std::string by_type(const QuantizeResult& result) {
  struct Share {
    uint64_t n_tensors = 0, n_weights = 0, size_bytes = 0;
    double worst = 0;
  };
  std::map<std::string, Share> shares;
  for (const QuantizedTensor& tensor : result.tensors) {
    Share& share = shares[tensor.type];
    ++share.n_tensors;
    share.n_weights += element_count(tensor);
    share.size_bytes += tensor.size_bytes;
    share.worst = std::max(share.worst, tensor.rel_rmse);
  }
  std::vector<std::pair<std::string, Share>> sorted(shares.begin(), shares.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.size_bytes > b.second.size_bytes; });
  Table table({"type", ">tensors", ">weights", ">size", ">worst error"});
  for (const auto& [type, share] : sorted)
    table.add({type, fmt::format("{}", share.n_tensors), format_count(share.n_weights), format_size(share.size_bytes),
               share.worst > 0 ? percent(share.worst) : "-"});
  return table.text(2);
}

std::string worst_tensors(const QuantizeResult& result) {
  std::vector<const QuantizedTensor*> measured;
  for (const QuantizedTensor& tensor : result.tensors)
    if (tensor.rel_rmse > 0) measured.push_back(&tensor);
  if (measured.empty()) return "";
  std::stable_sort(measured.begin(), measured.end(),
                   [](const QuantizedTensor* a, const QuantizedTensor* b) { return a->rel_rmse > b->rel_rmse; });
  measured.resize(std::min(measured.size(), kWorstShown));
  Table table({"tensor", "type", ">error", "chosen by"});
  for (const QuantizedTensor* tensor : measured)
    table.add({tensor->name, tensor->type, percent(tensor->rel_rmse), tensor->reason});
  return "\nLargest errors (root mean square of the error over that of the weights)\n" + table.text(2);
}

}  // namespace

std::string quantize_report(const QuantizeResult& result, const std::string& output, bool dry_run) {
  std::string text = by_type(result) + worst_tensors(result);
  if (!result.notes.empty()) {
    text += "\nNotes\n";
    for (const std::string& note : result.notes) text += "  " + note + "\n";
  }
  text += fmt::format("\n{}: {} → {}, {:.4f} bits per weight\n", dry_run ? "would write " + output : output,
                      format_size(result.source_bytes), format_size(result.size_bytes), result.bits_per_weight);
  if (dry_run) return text + fmt::format("estimated time {}\n", format_duration(result.estimated_seconds));
  if (result.divergence.n_tokens > 0)
    text += fmt::format("KL divergence from the original: {:.3g} on calibration text, {:.3g} on text held out from it\n",
                        result.divergence.seen, result.divergence.held_out);
  const double rate = result.seconds > 0 ? static_cast<double>(result.n_weights) / result.seconds : 0;
  return text + fmt::format("{}, {} weights/s, peak memory {}\n", format_duration(result.seconds),
                            format_count(static_cast<uint64_t>(rate)), format_size(result.peak_rss_bytes));
}

}  // namespace tsubu
