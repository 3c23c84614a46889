// Continuous batching: one thread steps all live sequences of a model together, prompts in pieces beside one token of
// every other sequence, so that the weights are read once for all. Keys and values of a finished sequence stay in their
// place until it is needed, and a prompt takes the longest beginning that any place holds, its own or copied; a request
// whose beginning another is just computing waits for that. What a request gets does not depend on the others.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/threads.h"
#include "engine/engine.h"
#include "serve/job.h"
#include "serve/metrics.h"

namespace tsubu::serve {

struct SchedulerOptions {
  size_t n_places = 8;      // sequences of a model computed at once
  size_t max_queued = 64;   // requests that wait for a place; more are refused
  size_t context = 4096;    // tokens of a sequence
  size_t prompt_piece = 256;  // tokens of prompts in one step
  double shadow_share = 0;  // of the first model's replies, that the second looks at
};

struct LaneModel {
  std::string name;
  Engine* engine = nullptr;
  const Tokenizer* tokenizer = nullptr;
};

class Scheduler {
 public:
  Scheduler(std::vector<LaneModel> models, const SchedulerOptions& options, ThreadPool& pool, Metrics& metrics);
  ~Scheduler();  // ends what is not done
  // nullptr: the queue is full, or the scheduler is draining. The prompt and what is asked must fit the context.
  std::shared_ptr<Job> submit(JobSpec spec);
  size_t n_queued() const;
  size_t n_running() const;
  uint64_t cache_bytes() const;  // of all places, at full length

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tsubu::serve
