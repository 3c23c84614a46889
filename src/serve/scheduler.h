// Continuous batching: one thread steps all live sequences of a model together, prompts in pieces beside one token of
// every other sequence, so that the weights are read once for all. Keys and values of a finished sequence stay in their
// place until it is needed, and a prompt takes the longest beginning that any place holds, its own or copied; a request
// whose beginning another is just computing waits for that. What a request gets does not depend on the others.
// Who is served when: a free place goes to the request that has the fewest of the model's places, and among those to the
// first that came, so that one request of many choices holds up nobody; the shadow's work takes places that nobody waits
// for. Prompts share a step's tokens alike: what short ones leave goes to the long ones.
#pragma once

#include <memory>
#include <span>
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
  size_t max_queued = 64;   // requests that wait for a place of one model; more are refused
  size_t context = 4096;    // tokens of a sequence
  size_t prompt_piece = 256;  // tokens of prompts in one step
  double shadow_share = 0;  // of the first model's replies, that the second looks at
};

// Tokens of each prompt in a step: `budget` shared alike by the first that came, what short ones leave going to the long
// ones. waiting: tokens that each prompt still needs, in the order of arrival.
std::vector<size_t> shares_of(std::span<const size_t> waiting, size_t budget);

struct LaneModel {
  std::string name;
  Engine* engine = nullptr;
  const Tokenizer* tokenizer = nullptr;
};

class Scheduler {
 public:
  Scheduler(std::vector<LaneModel> models, const SchedulerOptions& options, ThreadPool& pool, Metrics& metrics);
  ~Scheduler();  // ends what is not done
  // The jobs of one request, all for one model. Empty: the queue is full, or the scheduler is draining. The prompts and
  // what is asked must fit the context.
  std::vector<std::shared_ptr<Job>> submit(std::vector<JobSpec> specs);
  std::shared_ptr<Job> submit(JobSpec spec);  // a request of one; nullptr: refused
  size_t n_queued() const;
  size_t n_running() const;
  uint64_t cache_bytes() const;  // of all places, at full length

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tsubu::serve
