// Counts and times for Prometheus, in its text form. One list says what there is.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace tsubu::serve {

enum class Metric {
  kRequests,
  kRejected,
  kPromptTokens,
  kCachedTokens,
  kGeneratedTokens,
  kCancelled,
  kSteps,
  kStepTokens,
  kSecondsToFirstToken,
  kRequestSeconds,
  kShadowTokens,
  kShadowDisagreements,
  kShadowLogprobDifference,
  kShadowDropped,
  kVotes,
  kConnections,
  kConnectionsRefused,
  kQueued,
  kRunning,
  kResidentBytes,
  kUptimeSeconds
};

class Metrics {
 public:
  // labels: as Prometheus writes them, without braces: model="x". Thread-safe.
  void add(Metric metric, double amount = 1, const std::string& labels = "");
  void set(Metric metric, double value, const std::string& labels = "");
  void observe(Metric metric, double value, const std::string& labels = "");  // of a histogram
  double value(Metric metric, const std::string& labels = "") const;
  std::string text() const;
  // A label's value with what it may not hold escaped.
  static std::string label(std::string_view name, std::string_view value);

 private:
  struct Series {
    double value = 0;                // of a histogram: the sum
    std::vector<uint64_t> buckets;   // counts up to each bound
    uint64_t count = 0;
  };
  mutable std::mutex mutex_;
  std::map<Metric, std::map<std::string, Series>> series_;
};

uint64_t resident_bytes();  // of this process; 0 when the system does not say

}  // namespace tsubu::serve
