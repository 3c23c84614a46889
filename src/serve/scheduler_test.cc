// The scheduler on the bundled model: what a request gets is what it gets alone.
#include "serve/scheduler.h"

#include <gtest/gtest.h>

#include "model/model.h"

namespace tsubu::serve {
namespace {

struct Bundled {
  std::unique_ptr<Model> model = Model::open(std::string(TSUBU_SOURCE_DIR) + "/models/grain-7m");
  std::unique_ptr<Tokenizer> tokenizer = model->make_tokenizer();
  ThreadPool pool{2};
  std::unique_ptr<Engine> engine = Engine::make(*model, pool, {.act_int8 = true});
};

Bundled& bundled() {
  static Bundled b;
  return b;
}

struct Outcome {
  std::string text, finish;
  std::vector<TokenId> ids;
  std::vector<float> logprobs;
  bool operator==(const Outcome&) const = default;
};

Outcome wait_for(Job& job) {
  Outcome o;
  while (o.finish.empty()) {
    const auto event = job.next(60);
    if (!event) return o;
    o.text += event->text;
    for (const TokenResult& t : event->tokens) {
      o.ids.push_back(t.id);
      o.logprobs.push_back(t.logprob);
    }
    o.finish = event->finish;
  }
  return o;
}

JobSpec spec_of(const std::string& prompt, size_t n, uint64_t seed, double temperature = 1) {
  JobSpec s;
  s.prompt = bundled().tokenizer->encode(prompt);
  s.max_tokens = n;
  s.sampler = {.temperature = temperature, .top_p = 0.95, .top_k = 0, .seed = seed};
  s.wants_logprobs = true;
  return s;
}

const std::string kStory = "Once upon a time there was a little girl who lived in a small house near the forest. Every day she went to the "
                           "river with her dog, and they played together until the sun was low. One day";

std::vector<JobSpec> mixed() {
  std::vector<JobSpec> all = {spec_of("Once upon a time", 40, 1), spec_of(kStory, 30, 2), spec_of(kStory + " they saw a big", 20, 3, 0),
                              spec_of("The", 60, 4), spec_of(kStory + " the dog ran away", 25, 5), spec_of("Tom and", 1, 6),
                              spec_of("Once upon a time", 40, 1), spec_of("She said", 50, 7)};
  all[3].stops = {" the ", "."};
  all[4].frequency_penalty = 1.5;
  all[7].logit_bias[bundled().tokenizer->encode("dog", false).back()] = 4;
  return all;
}

Scheduler make(size_t n_places, Metrics& metrics, size_t max_queued = 64, size_t piece = 64) {
  return Scheduler({{"grain", bundled().engine.get(), bundled().tokenizer.get()}},
                   {.n_places = n_places, .max_queued = max_queued, .context = 200, .prompt_piece = piece}, bundled().pool, metrics);
}

TEST(Scheduler, NeighborsChangeNothing) {
  Metrics metrics;
  std::vector<Outcome> alone;
  for (const JobSpec& s : mixed()) {
    Scheduler one = make(1, metrics);  // anew: nothing is cached
    alone.push_back(wait_for(*one.submit(s)));
    EXPECT_FALSE(alone.back().text.empty());
  }
  EXPECT_EQ(alone[0], alone[6]) << "same seed";
  EXPECT_EQ(alone[3].finish, "stop");
  EXPECT_EQ(alone[3].text.find('.'), std::string::npos);
  EXPECT_EQ(alone[5].ids.size(), 1u);
  for (const size_t places : {1, 3, 8})
    for (const size_t piece : {7, 64}) {
      Scheduler many = make(places, metrics, 64, piece);
      std::vector<std::shared_ptr<Job>> jobs;
      for (const JobSpec& s : mixed()) jobs.push_back(many.submit(s));
      for (size_t i = 0; i < jobs.size(); ++i)
        EXPECT_EQ(wait_for(*jobs[i]), alone[i]) << "request " << i << " of " << places << " places, pieces of " << piece;
    }
}

TEST(Scheduler, ScoresAreTheLogprobsOfGeneration) {
  Metrics metrics;
  Scheduler s = make(2, metrics);
  const Outcome written = wait_for(*s.submit(spec_of(kStory, 40, 9)));
  JobSpec score = spec_of(kStory, 1, 1);
  score.given = written.ids;
  const Outcome scored = wait_for(*s.submit(score));
  EXPECT_EQ(scored.ids, written.ids);
  EXPECT_EQ(scored.logprobs, written.logprobs) << "the same bits";
}

TEST(Scheduler, SharedBeginningsAreComputedOnce) {
  Metrics metrics;
  const std::string label = Metrics::label("model", "grain");
  Scheduler s = make(8, metrics);
  const size_t n_prompt = spec_of(kStory, 1, 1).prompt.size();
  std::vector<std::shared_ptr<Job>> jobs;
  for (uint64_t seed = 0; seed < 6; ++seed) jobs.push_back(s.submit(spec_of(kStory, 1, seed)));
  for (const auto& job : jobs) wait_for(*job);
  // One whole prompt; of the others the last token alone.
  EXPECT_EQ(metrics.value(Metric::kStepTokens, label), static_cast<double>(n_prompt + 5));
  EXPECT_EQ(metrics.value(Metric::kCachedTokens, label), static_cast<double>(5 * (n_prompt - 1)));
  EXPECT_LT(metrics.value(Metric::kSteps, label), 6);
}

TEST(Scheduler, RefusesWhenTheQueueIsFullAndForgetsTheCancelled) {
  Metrics metrics;
  Scheduler s = make(1, metrics, 2);
  const auto running = s.submit(spec_of("The", 150, 1));
  while (s.n_running() == 0) std::this_thread::yield();
  const auto second = s.submit(spec_of("A", 5, 1)), third = s.submit(spec_of("B", 5, 1));
  ASSERT_TRUE(second && third);
  EXPECT_EQ(s.submit(spec_of("C", 5, 1)), nullptr);
  running->cancel();
  third->cancel();
  EXPECT_EQ(wait_for(*third).finish, "cancelled");
  EXPECT_NE(wait_for(*second).finish, "cancelled");
  EXPECT_EQ(s.n_running() + s.n_queued(), 0u);
  EXPECT_EQ(metrics.value(Metric::kCancelled), 2);
}

TEST(Scheduler, EndsWhatIsOpenWhenItGoes) {
  Metrics metrics;
  std::shared_ptr<Job> a, b;
  {
    Scheduler s = make(1, metrics);
    a = s.submit(spec_of("The", 190, 1));
    b = s.submit(spec_of("The", 190, 1));
  }
  for (Job* job : {a.get(), b.get()}) {
    const std::string finish = wait_for(*job).finish;
    EXPECT_TRUE(finish == "cancelled" || finish == "stop") << finish;
  }
}

TEST(Scheduler, AShadowOfItselfAgrees) {
  Metrics metrics;
  const LaneModel same = {"grain", bundled().engine.get(), bundled().tokenizer.get()};
  Scheduler s({same, {"base", same.engine, same.tokenizer}}, {.n_places = 4, .context = 200, .shadow_share = 0.5}, bundled().pool, metrics);
  std::vector<std::shared_ptr<Job>> jobs;
  size_t n_tokens = 0;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    jobs.push_back(s.submit(spec_of("Once upon a time", 20, seed)));
    n_tokens += wait_for(*jobs.back()).ids.size();
  }
  for (int i = 0; i < 2000 && (s.n_running() > 0 || s.n_queued() > 0); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const double seen = metrics.value(Metric::kShadowTokens);
  EXPECT_GT(seen, 4);
  EXPECT_LT(seen, static_cast<double>(n_tokens));
  // A sampled token need not be the likeliest, but both models call the same one the likeliest.
  EXPECT_EQ(metrics.value(Metric::kShadowDisagreements), 0);
  EXPECT_EQ(metrics.value(Metric::kShadowLogprobDifference), 0);
}

JobSpec endless(const std::string& prompt, size_t n, size_t lane = 0) {
  JobSpec s = spec_of(prompt, n, 1);
  s.ignore_end = true;
  s.lane = lane;
  return s;
}

Scheduler make_two(const SchedulerOptions& options, Metrics& metrics) {
  const LaneModel same = {"grain", bundled().engine.get(), bundled().tokenizer.get()};
  return Scheduler({same, {"base", same.engine, same.tokenizer}}, options, bundled().pool, metrics);
}

TEST(Fairness, PromptsShareAStep) {
  using Shares = std::vector<size_t>;
  EXPECT_EQ(shares_of(Shares{}, 256), Shares{});
  EXPECT_EQ(shares_of(Shares{1000}, 256), Shares{256});
  EXPECT_EQ(shares_of(Shares{4000, 10, 4000}, 256), (Shares{123, 10, 123}));
  EXPECT_EQ(shares_of(Shares{20, 30, 40}, 256), (Shares{20, 30, 40}));
  EXPECT_EQ(shares_of(Shares{5, 5, 5}, 2), (Shares{1, 1, 0})) << "who came first";
}

// A request of many choices fills the places, and gives each place that comes free to others first.
TEST(Fairness, ManyChoicesHoldUpNobody) {
  Metrics metrics;
  Scheduler s = make(2, metrics, 2);
  const auto many = s.submit(std::vector<JobSpec>(8, endless("The", 150)));
  ASSERT_EQ(many.size(), 8u) << "one request, whatever the queue holds";
  while (s.n_running() < 2) std::this_thread::yield();
  const auto one = s.submit(endless("A dog", 3));
  ASSERT_TRUE(one);
  EXPECT_EQ(wait_for(*one).ids.size(), 3u);
  EXPECT_GT(many[0]->n_generated(), 0u);
  EXPECT_EQ(many[7]->n_generated(), 0u);
  for (const auto& job : many) job->cancel();
}

TEST(Fairness, AQueueIsOneModelsOwn) {
  Metrics metrics;
  Scheduler s = make_two({.n_places = 1, .max_queued = 0, .context = 200}, metrics);
  const auto running = s.submit(endless("The", 190));
  ASSERT_TRUE(running) << "a free place needs no queue";
  EXPECT_EQ(s.submit(endless("The", 5)), nullptr);
  const auto other = s.submit(endless("The", 5, 1));
  ASSERT_TRUE(other);
  EXPECT_EQ(wait_for(*other).ids.size(), 5u);
  running->cancel();
}

TEST(Fairness, NobodyWaitsForTheShadow) {
  Metrics metrics;
  Scheduler s = make_two({.n_places = 1, .context = 200, .shadow_share = 1}, metrics);
  const auto first = s.submit(endless("The", 190, 1));
  for (int i = 0; i < 3; ++i) wait_for(*s.submit(endless("Once", 2)));
  const auto second = s.submit(endless("The", 150, 1));
  ASSERT_FALSE(first->is_cancelled());
  wait_for(*first);
  ASSERT_TRUE(second->next(60));
  EXPECT_EQ(metrics.value(Metric::kShadowTokens), 0) << "replies to look at came before this request";
  second->cancel();
  for (int i = 0; i < 2000 && (s.n_running() > 0 || s.n_queued() > 0); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_EQ(metrics.value(Metric::kShadowTokens), 6);
}

}  // namespace
}  // namespace tsubu::serve
