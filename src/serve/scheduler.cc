#include "serve/scheduler.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "serve/logprobs.h"
#include "serve/text_stream.h"

namespace tsubu::serve {
namespace {

constexpr size_t kWorthWaiting = 16;   // tokens of a common beginning that another request is computing
constexpr size_t kScoredAtOnce = 16;   // tokens of a given text whose logits are held at a time
constexpr size_t kMaxShadows = 8;      // sampled replies that wait for the base
constexpr size_t kPenaltyWindow = 64;  // tokens the repeat penalty looks back, as `run` does

size_t common_prefix(std::span<const TokenId> a, std::span<const TokenId> b) {
  const size_t n = std::min(a.size(), b.size());
  return static_cast<size_t>(std::mismatch(a.begin(), a.begin() + static_cast<ptrdiff_t>(n), b.begin()).first - a.begin());
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// What the base is to look at, and what the model said.
struct Shadow {
  std::vector<TokenId> prompt, tokens, likeliest;
  std::vector<float> logprobs;
};

// A place for one sequence.
struct Place {
  std::unique_ptr<Session> session;
  std::vector<TokenId> tokens;  // of the session
  uint64_t last_used = 0, started = 0;
  std::shared_ptr<Job> job;  // nullptr: free

  // Of the job:
  std::vector<TokenId> wanted;  // tokens to compute before the next is chosen: the prompt, later the last one chosen
  size_t n_prompt = 0;
  std::unique_ptr<Sampler> sampler;
  std::unique_ptr<TextStream> text;
  std::map<TokenId, int> counts;  // of generated tokens
  std::vector<TokenId> generated;
  bool is_first = true;
  std::unique_ptr<Shadow> shadow;  // when this reply is sampled

  // In the step at hand:
  size_t n_now = 0, n_logits = 0, logits_at = 0;
  TokenId chosen = 0;
  TokenResult result;
};

struct Lane {
  LaneModel model;
  std::vector<Place> places;
  std::vector<float> logits;
  std::string label;
  size_t n_live = 0;  // places with a job; under the scheduler's mutex
};

}  // namespace

std::vector<size_t> shares_of(std::span<const size_t> waiting, size_t budget) {
  std::vector<size_t> shares(waiting.size(), 0), order(std::min(waiting.size(), budget));
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return waiting[a] < waiting[b]; });
  for (size_t k = 0; k < order.size(); ++k) {
    shares[order[k]] = std::min(waiting[order[k]], budget / (order.size() - k));
    budget -= shares[order[k]];
  }
  return shares;
}

struct Scheduler::Impl {
  Impl(std::vector<LaneModel> models, const SchedulerOptions& o, ThreadPool& p, Metrics& m) : options(o), pool(p), metrics(m) {
    for (const LaneModel& model : models) {
      Lane& lane = lanes.emplace_back();
      lane.model = model;
      lane.label = Metrics::label("model", model.name);
      for (size_t i = 0; i < options.n_places; ++i)
        lane.places.emplace_back().session = model.engine->new_session(options.context);
      lane.logits.resize((options.n_places + kScoredAtOnce) * model.engine->n_vocab());
    }
    thread = std::thread([this] { run(); });
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex);
      is_stopping = true;
      wake.notify_all();
    }
    thread.join();
  }

  // ---- the thread ---------------------------------------------------------------------------------------------------

  void run() {
    while (true) {
      {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return is_stopping || !queue.empty() || n_live > 0; });
        if (is_stopping) break;
        admit();
      }
      for (Lane& lane : lanes) step(lane);
    }
    for (Lane& lane : lanes)
      for (Place& place : lane.places)
        if (place.job) finish(lane, place, "cancelled", "the server is shutting down");
    for (const auto& job : queue) job->push({"", {}, true, "cancelled", "the server is shutting down"});
  }

  // Queued jobs to free places: see the header. Those that wait for a common beginning let others pass.
  void admit() {
    std::erase_if(queue, [&](const std::shared_ptr<Job>& job) {
      if (!job->is_cancelled()) return false;
      if (!job->spec.is_internal) metrics.add(Metric::kCancelled);
      job->push({"", {}, true, "cancelled", ""});
      return true;
    });
    for (size_t i = 0; i < lanes.size(); ++i) admit(i);
  }

  void admit(size_t index) {
    Lane& lane = lanes[index];
    std::map<uint64_t, size_t> held;  // places of each request
    for (const Place& p : lane.places)
      if (p.job) ++held[p.job->request];
    const auto rank = [&](const Job& job) { return std::pair(job.spec.is_internal, held[job.request]); };
    std::set<const Job*> waits;
    while (lane.n_live < lane.places.size()) {
      auto next = queue.end();
      for (auto it = queue.begin(); it != queue.end(); ++it)
        if ((*it)->spec.lane == index && !waits.contains(it->get()) && (next == queue.end() || rank(**it) < rank(**next)))
          next = it;
      if (next == queue.end()) break;
      if (place_job(lane, *next)) {
        ++held[(*next)->request];
        queue.erase(next);
      } else {
        waits.insert(next->get());
      }
    }
  }

  bool place_job(Lane& lane, const std::shared_ptr<Job>& job) {
    const std::vector<TokenId> all = whole_text(job->spec);
    // The last token of the prompt is computed in any case: its logits are wanted.
    const std::span<const TokenId> usable = std::span(all).first(job->spec.prompt.size() - 1);
    Place *free = nullptr, *source = nullptr;
    size_t most = 0;
    for (Place& p : lane.places) {
      const size_t n = common_prefix(p.tokens, usable);
      if (!source || n > most) {
        source = &p;
        most = n;
      }
      if (!p.job && (!free || p.last_used < free->last_used)) free = &p;
    }
    if (!free) return false;
    for (const Place& p : lane.places) {
      if (!p.job || p.tokens.size() >= p.n_prompt || p.job->is_cancelled()) continue;
      const size_t coming = common_prefix(std::span(p.job->spec.prompt), usable);
      if (coming >= most + kWorthWaiting && p.tokens.size() < coming) return false;
    }
    // A place is taken over where it lies unless that would throw away more than it saves.
    if (!source->job && 2 * most >= source->tokens.size()) free = source;
    if (free == source)
      free->session->truncate(most);
    else
      free->session->copy_prefix(*source->session, most);
    free->tokens.assign(all.begin(), all.begin() + static_cast<ptrdiff_t>(most));
    start(*free, job, all);
    free->job->n_cached_ = most;
    if (!job->spec.is_internal) {
      metrics.add(Metric::kPromptTokens, static_cast<double>(job->spec.prompt.size()), lane.label);
      metrics.add(Metric::kCachedTokens, static_cast<double>(most), lane.label);
    }
    ++lane.n_live;
    ++n_live;
    return true;
  }

  // The prompt, and of a given text all but its last token, which nothing follows.
  static std::vector<TokenId> whole_text(const JobSpec& spec) {
    std::vector<TokenId> all = spec.prompt;
    if (!spec.given.empty()) all.insert(all.end(), spec.given.begin(), spec.given.end() - 1);
    return all;
  }

  void start(Place& place, const std::shared_ptr<Job>& job, const std::vector<TokenId>& all) {
    place.job = job;
    place.started = ++clock;
    place.wanted = all;
    place.n_prompt = job->spec.prompt.size();
    place.sampler = std::make_unique<Sampler>(job->spec.sampler);
    place.text = std::make_unique<TextStream>(job->spec.stops);
    place.counts.clear();
    place.generated.clear();
    place.is_first = true;
    place.shadow.reset();
    if (options.shadow_share > 0 && job->spec.lane == 0 && !job->spec.is_internal && job->spec.given.empty()) {
      // Evenly spread, so that the share is kept exactly.
      const double before = std::floor(static_cast<double>(n_replies) * options.shadow_share);
      if (std::floor(static_cast<double>(++n_replies) * options.shadow_share) > before) {
        place.shadow = std::make_unique<Shadow>();
        place.shadow->prompt = job->spec.prompt;
      }
    }
  }

  // One forward pass over all live sequences of a model.
  void step(Lane& lane) {
    std::vector<BatchPart> parts;
    std::vector<Place*> owners, prompts;
    const size_t n_vocab = lane.model.engine->n_vocab();
    size_t n_tokens = 0, n_logits = 0, scored_left = kScoredAtOnce;
    const auto add = [&](Place& p, size_t n) {
      p.n_logits = logits_wanted(p, n);
      if (!p.job->spec.given.empty()) {
        while (n > 0 && p.n_logits > scored_left) p.n_logits = logits_wanted(p, --n);
        scored_left -= p.n_logits;
      }
      if (n == 0) return;
      p.n_now = n;
      p.logits_at = n_logits;
      parts.push_back({p.session.get(), std::span(p.wanted).subspan(p.tokens.size(), n), p.n_logits});
      owners.push_back(&p);
      n_tokens += n;
      n_logits += p.n_logits;
    };
    for (Place& p : lane.places) {
      if (!p.job) continue;
      if (p.job->is_cancelled())
        finish(lane, p, "cancelled", "");
      else if (p.wanted.size() - p.tokens.size() > 1)
        prompts.push_back(&p);
      else
        add(p, 1);
    }
    std::sort(prompts.begin(), prompts.end(), [](const Place* a, const Place* b) { return a->started < b->started; });
    std::vector<size_t> waiting;
    for (const Place* p : prompts) waiting.push_back(p->wanted.size() - p->tokens.size());
    const std::vector<size_t> shares =
        shares_of(waiting, std::min(options.prompt_piece, lane.model.engine->max_batch_tokens() - lane.places.size()));
    for (size_t i = 0; i < prompts.size(); ++i) add(*prompts[i], shares[i]);
    if (parts.empty()) return;
    try {
      lane.model.engine->forward_batch(parts, std::span(lane.logits).first(n_logits * n_vocab));
    } catch (const std::exception& e) {
      for (Place* p : owners) finish(lane, *p, "error", e.what());
      return;
    }
    metrics.add(Metric::kSteps, 1, lane.label);
    metrics.add(Metric::kStepTokens, static_cast<double>(n_tokens), lane.label);
    for (Place* p : owners)
      p->tokens.insert(p->tokens.end(), p->wanted.begin() + static_cast<ptrdiff_t>(p->tokens.size()),
                       p->wanted.begin() + static_cast<ptrdiff_t>(p->tokens.size() + p->n_now));
    std::vector<std::string> errors(owners.size());
    pool.parallel_for(owners.size(), [&](size_t i, int) {
      Place& p = *owners[i];
      if (p.n_logits == 0 || !p.job->spec.given.empty()) return;
      try {
        choose(p, std::span(lane.logits).subspan(p.logits_at * n_vocab, n_vocab));
      } catch (const std::exception& e) {
        errors[i] = e.what();
      }
    });
    for (size_t i = 0; i < owners.size(); ++i) {
      Place& p = *owners[i];
      if (!errors[i].empty())
        finish(lane, p, "error", errors[i]);
      else if (p.n_logits > 0 && p.job->spec.given.empty())
        take(lane, p);
      else if (p.n_logits > 0)
        score(lane, p, n_vocab);
    }
  }

  // Of the next n tokens of a place.
  static size_t logits_wanted(const Place& p, size_t n) {
    const size_t end = p.tokens.size() + n;
    if (p.job->spec.given.empty()) return end == p.wanted.size() ? 1 : 0;
    return end >= p.n_prompt ? end - std::max(p.tokens.size(), p.n_prompt - 1) : 0;
  }

  void choose(Place& p, std::span<float> logits) const {
    const JobSpec& spec = p.job->spec;
    const bool looks = spec.wants_logprobs || p.shadow != nullptr;
    std::vector<float> own;
    const bool changes = spec.frequency_penalty != 0 || spec.presence_penalty != 0 || !spec.logit_bias.empty();
    if (looks && changes) own.assign(logits.begin(), logits.end());
    if (changes) {
      for (const auto& [id, n] : p.counts)
        logits[static_cast<size_t>(id)] -= static_cast<float>(n * spec.frequency_penalty + spec.presence_penalty);
      for (const auto& [id, bias] : spec.logit_bias) logits[static_cast<size_t>(id)] += bias;
    }
    const size_t window = std::min(p.wanted.size(), kPenaltyWindow);
    p.chosen = p.sampler->pick(logits, std::span(p.wanted).last(window));
    const std::span<const float> model = own.empty() ? logits : std::span<float>(own);
    if (looks) p.result = token_result(model, p.chosen, spec.n_top);
    if (p.shadow) {
      p.shadow->tokens.push_back(p.chosen);
      p.shadow->likeliest.push_back(likeliest(model));
      p.shadow->logprobs.push_back(p.result.logprob);
    }
  }

  // The chosen token goes to its reader.
  void take(Lane& lane, Place& p) {
    const Tokenizer& tokenizer = *lane.model.tokenizer;
    if (p.generated.empty() && !p.job->spec.is_internal)
      metrics.observe(Metric::kSecondsToFirstToken, seconds_since(p.job->arrival), lane.label);
    const bool ends = tokenizer.is_end_of_generation(p.chosen) && !p.job->spec.ignore_end;
    if (ends) return finish(lane, p, "stop", "");
    p.generated.push_back(p.chosen);
    ++p.counts[p.chosen];
    p.job->n_generated_ = p.generated.size();
    metrics.add(Metric::kGeneratedTokens, 1, lane.label);
    std::string bytes = tokenizer.piece(p.chosen, false);
    if (p.is_first && p.job->spec.trim_first_space && bytes.starts_with(' ')) bytes.erase(0, 1);
    p.is_first = false;
    JobEvent event;
    event.text = p.text->feed(bytes);
    if (p.job->spec.wants_logprobs) event.tokens.push_back(std::move(p.result));
    if (!event.text.empty() || !event.tokens.empty()) p.job->push(std::move(event));
    if (p.text->is_stopped()) return finish(lane, p, "stop", "");
    if (p.generated.size() >= p.job->spec.max_tokens || p.tokens.size() >= p.session->capacity())
      return finish(lane, p, "length", "");
    p.wanted = p.tokens;
    p.wanted.push_back(p.chosen);
  }

  void score(Lane& lane, Place& p, size_t n_vocab) {
    const std::vector<TokenId>& given = p.job->spec.given;
    JobEvent event;
    const size_t first = p.tokens.size() - p.n_logits - (p.n_prompt - 1);  // given token that the first row tells
    for (size_t i = 0; i < p.n_logits; ++i)
      event.tokens.push_back(token_result(std::span(lane.logits).subspan((p.logits_at + i) * n_vocab, n_vocab), given[first + i],
                                          p.job->spec.n_top));
    p.job->push(std::move(event));
    if (p.tokens.size() == p.wanted.size()) finish(lane, p, "length", "");
  }

  void finish(Lane& lane, Place& p, const std::string& reason, const std::string& error) {
    JobEvent last;
    if (reason == "stop" || reason == "length") last.text = p.text->finish();
    last.is_last = true;
    last.finish = reason;
    last.error = error;
    const std::shared_ptr<Job> job = std::move(p.job);
    p.job.reset();
    p.last_used = ++clock;
    if (error.empty() && p.shadow && reason != "cancelled") submit_shadow(*p.shadow);
    p.shadow.reset();
    if (reason == "error") {  // its session may hold anything
      p.session->truncate(0);
      p.tokens.clear();
    }
    if (job->spec.is_internal) {
      shadow_done(*job, last);
    } else {
      metrics.observe(Metric::kRequestSeconds, seconds_since(job->arrival), lane.label);
      if (reason == "cancelled") metrics.add(Metric::kCancelled);
    }
    {
      const std::lock_guard lock(mutex);
      --lane.n_live;
      --n_live;
    }
    job->push(std::move(last));
  }

  // ---- the shadow ---------------------------------------------------------------------------------------------------

  void submit_shadow(Shadow& shadow) {
    if (shadow.tokens.empty()) return;
    const std::lock_guard lock(mutex);
    if (shadows.size() >= kMaxShadows) return metrics.add(Metric::kShadowDropped);
    JobSpec spec;
    spec.lane = 1;
    spec.prompt = std::move(shadow.prompt);
    spec.given = shadow.tokens;
    spec.n_top = 1;
    spec.is_internal = true;
    const auto job = std::make_shared<Job>(std::move(spec), ++n_requests);
    shadows.emplace(job.get(), std::move(shadow));
    queue.push_back(job);
  }

  void shadow_done(Job& job, const JobEvent& last) {
    Shadow shadow;
    {
      const std::lock_guard lock(mutex);
      const auto it = shadows.find(&job);
      if (it == shadows.end()) return;
      shadow = std::move(it->second);
      shadows.erase(it);
    }
    if (last.finish != "length") return metrics.add(Metric::kShadowDropped);
    size_t i = 0, n_differ = 0;
    double difference = 0;
    while (auto event = job.next(0))
      for (const TokenResult& base : event->tokens) {
        n_differ += base.top.front().first != shadow.likeliest[i];
        difference += std::abs(static_cast<double>(base.logprob) - static_cast<double>(shadow.logprobs[i]));
        ++i;
      }
    metrics.add(Metric::kShadowTokens, static_cast<double>(i));
    metrics.add(Metric::kShadowDisagreements, static_cast<double>(n_differ));
    metrics.add(Metric::kShadowLogprobDifference, difference);
  }

  const SchedulerOptions options;
  ThreadPool& pool;
  Metrics& metrics;
  std::vector<Lane> lanes;
  uint64_t clock = 0, n_replies = 0;

  mutable std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::shared_ptr<Job>> queue;
  std::map<const Job*, Shadow> shadows;  // by their job
  size_t n_live = 0;
  uint64_t n_requests = 0;
  bool is_stopping = false;
  std::thread thread;
};

Scheduler::Scheduler(std::vector<LaneModel> models, const SchedulerOptions& options, ThreadPool& pool, Metrics& metrics)
    : impl_(std::make_unique<Impl>(std::move(models), options, pool, metrics)) {}
Scheduler::~Scheduler() = default;

std::vector<std::shared_ptr<Job>> Scheduler::submit(std::vector<JobSpec> specs) {
  const std::lock_guard lock(impl_->mutex);
  const size_t lane = specs.at(0).lane;
  std::set<uint64_t> waiting;
  for (const auto& job : impl_->queue)
    if (!job->spec.is_internal && job->spec.lane == lane) waiting.insert(job->request);
  const size_t n_free = impl_->options.n_places - impl_->lanes[lane].n_live;
  if (impl_->is_stopping || waiting.size() >= impl_->options.max_queued + n_free) return {};
  std::vector<std::shared_ptr<Job>> jobs;
  const uint64_t request = ++impl_->n_requests;
  for (JobSpec& spec : specs) jobs.push_back(std::make_shared<Job>(std::move(spec), request));
  impl_->queue.insert(impl_->queue.end(), jobs.begin(), jobs.end());
  impl_->wake.notify_all();
  return jobs;
}

std::shared_ptr<Job> Scheduler::submit(JobSpec spec) {
  std::vector<JobSpec> one;
  one.push_back(std::move(spec));
  const auto jobs = submit(std::move(one));
  return jobs.empty() ? nullptr : jobs[0];
}

size_t Scheduler::n_queued() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->queue.size();
}

size_t Scheduler::n_running() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->n_live;
}

uint64_t Scheduler::cache_bytes() const {
  uint64_t bytes = 0;
  for (const Lane& lane : impl_->lanes)
    for (const Place& p : lane.places) bytes += p.session->size_bytes();
  return bytes;
}

}  // namespace tsubu::serve
