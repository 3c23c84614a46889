#include "serve/metrics.h"

#include <fmt/format.h>

#include "base/memory.h"

namespace tsubu::serve {
namespace {

enum class Kind { kCounter, kGauge, kHistogram };
struct Row {
  Metric metric;
  Kind kind;
  const char* name;
  const char* help;
};

constexpr Row kRows[] = {
    {Metric::kRequests, Kind::kCounter, "tsubu_requests_total", "Replies, by path and status"},
    {Metric::kRejected, Kind::kCounter, "tsubu_rejected_total", "Requests told to come back (429)"},
    {Metric::kPromptTokens, Kind::kCounter, "tsubu_prompt_tokens_total", "Tokens of prompts"},
    {Metric::kCachedTokens, Kind::kCounter, "tsubu_cached_tokens_total", "Tokens of prompts whose keys and values were there already"},
    {Metric::kGeneratedTokens, Kind::kCounter, "tsubu_generated_tokens_total", "Tokens generated"},
    {Metric::kCancelled, Kind::kCounter, "tsubu_cancelled_total", "Requests whose client went away"},
    {Metric::kSteps, Kind::kCounter, "tsubu_steps_total", "Forward passes"},
    {Metric::kStepTokens, Kind::kCounter, "tsubu_step_tokens_total", "Tokens computed in them"},
    {Metric::kSecondsToFirstToken, Kind::kHistogram, "tsubu_time_to_first_token_seconds", "From a request's arrival to its first token"},
    {Metric::kRequestSeconds, Kind::kHistogram, "tsubu_request_seconds", "From a request's arrival to its last token"},
    {Metric::kShadowTokens, Kind::kCounter, "tsubu_shadow_tokens_total", "Generated tokens that the base looked at"},
    {Metric::kShadowDisagreements, Kind::kCounter, "tsubu_shadow_disagreements_total", "Of these, those where its likeliest token is another"},
    {Metric::kShadowLogprobDifference, Kind::kCounter, "tsubu_shadow_logprob_difference_total",
     "Sum over these of |log-probability of the token, model - base|"},
    {Metric::kShadowDropped, Kind::kCounter, "tsubu_shadow_dropped_total", "Sampled replies that the base had no time for"},
    {Metric::kVotes, Kind::kCounter, "tsubu_votes_total", "Blind votes since the start"},
    {Metric::kConnections, Kind::kGauge, "tsubu_connections", "Open connections"},
    {Metric::kConnectionsRefused, Kind::kCounter, "tsubu_connections_refused_total", "Connections told to come back (429)"},
    {Metric::kQueued, Kind::kGauge, "tsubu_queued", "Requests that wait for a place"},
    {Metric::kRunning, Kind::kGauge, "tsubu_running", "Requests that are computed"},
    {Metric::kResidentBytes, Kind::kGauge, "process_resident_memory_bytes", "Resident memory"},
    {Metric::kUptimeSeconds, Kind::kGauge, "tsubu_uptime_seconds", "Since the start"},
};

constexpr double kBounds[] = {0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300};  // seconds

std::string with_braces(const std::string& labels, const std::string& more = "") {
  const std::string all = labels + (labels.empty() || more.empty() ? "" : ",") + more;
  return all.empty() ? "" : "{" + all + "}";
}

}  // namespace

void Metrics::add(Metric metric, double amount, const std::string& labels) {
  const std::lock_guard lock(mutex_);
  series_[metric][labels].value += amount;
}

void Metrics::set(Metric metric, double value, const std::string& labels) {
  const std::lock_guard lock(mutex_);
  series_[metric][labels].value = value;
}

void Metrics::observe(Metric metric, double value, const std::string& labels) {
  const std::lock_guard lock(mutex_);
  Series& s = series_[metric][labels];
  s.buckets.resize(std::size(kBounds));
  for (size_t i = 0; i < std::size(kBounds); ++i) s.buckets[i] += value <= kBounds[i];
  s.value += value;
  ++s.count;
}

double Metrics::value(Metric metric, const std::string& labels) const {
  const std::lock_guard lock(mutex_);
  const auto m = series_.find(metric);
  if (m == series_.end()) return 0;
  const auto s = m->second.find(labels);
  return s == m->second.end() ? 0 : s->second.value;
}

std::string Metrics::text() const {
  const std::lock_guard lock(mutex_);
  constexpr const char* kKinds[] = {"counter", "gauge", "histogram"};
  std::string out;
  for (const Row& row : kRows) {
    out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", row.name, row.help, row.name, kKinds[static_cast<size_t>(row.kind)]);
    const auto found = series_.find(row.metric);
    if (found == series_.end()) {
      if (row.kind != Kind::kHistogram) out += fmt::format("{} 0\n", row.name);
      continue;
    }
    for (const auto& [labels, s] : found->second) {
      if (row.kind != Kind::kHistogram) {
        out += fmt::format("{}{} {}\n", row.name, with_braces(labels), s.value);
        continue;
      }
      for (size_t i = 0; i < std::size(kBounds); ++i)
        out += fmt::format("{}_bucket{} {}\n", row.name, with_braces(labels, fmt::format("le=\"{}\"", kBounds[i])), s.buckets[i]);
      out += fmt::format("{}_bucket{} {}\n{}_sum{} {}\n{}_count{} {}\n", row.name, with_braces(labels, "le=\"+Inf\""), s.count,
                         row.name, with_braces(labels), s.value, row.name, with_braces(labels), s.count);
    }
  }
  return out;
}

std::string Metrics::label(std::string_view name, std::string_view value) {
  std::string out(name);
  out += "=\"";
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out + "\"";
}

uint64_t resident_bytes() { return tsubu::resident_bytes(); }

}  // namespace tsubu::serve
