// One sequence that is computed for a request: what is asked, and the tokens as they come.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/sampler.h"
#include "text/tokenizer.h"

namespace tsubu::serve {

struct JobSpec {
  size_t lane = 0;  // the model's place in the list
  std::vector<TokenId> prompt;
  // Score these tokens after the prompt instead of generating.
  std::vector<TokenId> given;
  size_t max_tokens = 16;
  SamplerOptions sampler;
  double frequency_penalty = 0, presence_penalty = 0;
  std::map<TokenId, float> logit_bias;
  std::vector<std::string> stops;
  bool ignore_end = false;
  bool trim_first_space = false;  // SentencePiece: a reply of its own has no space before it
  bool wants_logprobs = false;
  size_t n_top = 0;  // likeliest tokens to list with each
  bool is_internal = false;  // the shadow's: nobody waits for it
};

struct TokenResult {
  TokenId id = 0;
  float logprob = 0;  // of the model's own distribution: temperature 1, no penalties
  std::vector<std::pair<TokenId, float>> top;
};

struct JobEvent {
  std::string text;  // that is certain now; may be empty
  std::vector<TokenResult> tokens;  // with wants_logprobs, or given
  bool is_last = false;
  std::string finish;  // of the last: "stop", "length", "cancelled", "error"
  std::string error;
};

class Job {
 public:
  Job(JobSpec s, uint64_t r) : spec(std::move(s)), request(r), arrival(std::chrono::steady_clock::now()) {}
  const JobSpec spec;
  const uint64_t request;  // number of the request that it belongs to, in the order of arrival
  const std::chrono::steady_clock::time_point arrival;

  // ---- for who waits for it
  // The next event, or nullopt when none came in time.
  std::optional<JobEvent> next(double seconds);
  void cancel() { is_cancelled_ = true; }
  size_t n_generated() const { return n_generated_; }
  size_t n_cached() const { return n_cached_; }  // tokens of the prompt that were there already

  // ---- for the scheduler
  void push(JobEvent event);
  bool is_cancelled() const { return is_cancelled_; }
  std::atomic<size_t> n_generated_{0}, n_cached_{0};

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<JobEvent> events_;
  std::atomic<bool> is_cancelled_{false};
};

}  // namespace tsubu::serve
