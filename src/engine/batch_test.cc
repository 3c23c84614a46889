// Sequences computed together: each gets the bytes that it gets alone.
#include <gtest/gtest.h>

#include <cstring>

#include "base/test_error_code.h"
#include "engine/engine.h"
#include "engine/random_model.h"

namespace tsubu {
namespace {

struct Case {
  const char* name;
  RandomModelOptions model;
  EngineOptions engine;
};

template <class T>
T changed(const std::function<void(T&)>& change) {
  T o{};
  change(o);
  return o;
}
EngineOptions cache_of(const char* formats) {
  EngineOptions o;
  o.numerics.cache = parse_kv_formats(formats);
  return o;
}

const Case kCases[] = {
    {"f32", {}, {}},
    {"int8_f16_cache", random_options([](auto& o) { o.type = "Q8_0"; o.n_embd = o.n_ff = 64; o.head_dim = 16; }),
     {.act_int8 = true, .kv_f16 = true}},
    {"k_quant_int8", random_options([](auto& o) { o.type = "Q4_K"; o.n_embd = o.n_ff = 256; o.head_dim = 64; }),
     {.act_int8 = true}},
    {"k_quant_f32", random_options([](auto& o) { o.type = "Q4_K"; o.n_embd = o.n_ff = 256; o.head_dim = 64; }), {}},
    {"compact_cache", random_options([](auto& o) { o.head_dim = 32; o.n_rope_pairs = 8; }), cache_of("q8_0/q4_0")},
    {"sliding_window", random_options([](auto& o) { o.sliding_window = 7; }), {}},
    {"learned_positions", random_options([](auto& o) { o.gpt2 = true; }), {}},
};

class EveryBatch : public ::testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Engine, EveryBatch, ::testing::ValuesIn(kCases), [](const auto& p) { return p.param.name; });

struct Sequence {
  std::vector<TokenId> tokens;
  std::vector<float> alone;  // logits of all tokens
  std::unique_ptr<Session> session;
  size_t done() const { return session->n_past(); }
};

std::vector<Sequence> sequences(Engine& engine, std::vector<size_t> lengths) {
  std::vector<Sequence> all;
  for (size_t i = 0; i < lengths.size(); ++i) {
    Sequence s;
    s.tokens = random_tokens(lengths[i], 50, static_cast<uint32_t>(20 + i));
    s.session = engine.new_session(lengths[i] + i);
    s.alone.resize(lengths[i] * engine.n_vocab());
    engine.forward(*s.session, s.tokens, lengths[i], s.alone);
    s.session->truncate(0);
    all.push_back(std::move(s));
  }
  return all;
}

TEST_P(EveryBatch, ASequenceDoesNotSeeItsNeighbors) {
  const RandomModel model(GetParam().model);
  ThreadPool pool(2);
  const auto engine = Engine::make(model, pool, GetParam().engine);
  auto all = sequences(*engine, {61, 17, 1, 40, 33, 90});
  std::vector<float> logits;
  // Uneven pieces: some sequences give one token, others many, with logits of none, one or all of them.
  for (size_t step = 0; step < 120; ++step) {
    std::vector<BatchPart> parts;
    std::vector<Sequence*> owners;
    size_t n_logits = 0;
    for (size_t i = 0; i < all.size(); ++i) {
      Sequence& s = all[i];
      const size_t left = s.tokens.size() - s.done();
      if (left == 0 || (step + i) % 5 == 4) continue;
      const size_t n = std::min<size_t>(left, (step + i) % 3 == 0 ? 1 : 3 + 4 * ((step * 7 + i) % 4));
      parts.push_back({s.session.get(), std::span(s.tokens).subspan(s.done(), n), (step + i) % 4 == 1 ? 0 : step % 2 ? n : 1});
      owners.push_back(&s);
      n_logits += parts.back().n_logits;
    }
    logits.assign(n_logits * engine->n_vocab(), -1);
    engine->forward_batch(parts, logits);
    const float* at = logits.data();
    for (size_t p = 0; p < parts.size(); ++p) {
      const size_t n = parts[p].n_logits * engine->n_vocab();
      const float* want = owners[p]->alone.data() + (owners[p]->done() - parts[p].n_logits) * engine->n_vocab();
      EXPECT_EQ(std::memcmp(at, want, n * sizeof(float)), 0) << "step " << step << ", part " << p;
      at += n;
    }
  }
  for (const Sequence& s : all) EXPECT_EQ(s.done(), s.tokens.size());
}

TEST_P(EveryBatch, ACopiedPrefixIsAComputedOne) {
  const RandomModel model(GetParam().model);
  ThreadPool pool(1);
  const auto engine = Engine::make(model, pool, GetParam().engine);
  auto all = sequences(*engine, {50});
  engine->forward(*all[0].session, all[0].tokens, 0, {});
  const auto copy = engine->new_session(77);
  for (size_t n : {1, 16, 31, 49}) {
    copy->copy_prefix(*all[0].session, n);
    EXPECT_EQ(copy->n_past(), n);
    std::vector<float> logits(engine->n_vocab());
    engine->forward(*copy, std::span(all[0].tokens).subspan(n), 1, logits);
    EXPECT_EQ(std::memcmp(logits.data(), all[0].alone.data() + 49 * engine->n_vocab(), logits.size() * sizeof(float)), 0)
        << n;
  }
}

TEST(Batch, RefusesWhatDoesNotFit) {
  const RandomModel model(RandomModelOptions{});
  ThreadPool pool(1);
  const auto engine = Engine::make(model, pool), other = Engine::make(model, pool);
  const auto a = engine->new_session(4), b = engine->new_session(600), foreign = other->new_session(4);
  std::vector<float> logits(engine->n_vocab());
  const std::vector<TokenId> few = {1, 2, 3}, wrong = {50}, many(engine->max_batch_tokens() + 1, 1);
  const auto code = [&](std::vector<BatchPart> parts) { return code_of([&] { engine->forward_batch(parts, logits); }); };
  EXPECT_EQ(code({{a.get(), few, 2}}), ExitCode::kUsage) << "room for one token's logits";
  EXPECT_EQ(code({{a.get(), few, 4}}), ExitCode::kUsage);
  EXPECT_EQ(code({{a.get(), {}, 0}}), ExitCode::kUsage);
  EXPECT_EQ(code({{nullptr, few, 0}}), ExitCode::kUsage);
  EXPECT_EQ(code({{a.get(), few, 0}, {a.get(), few, 0}}), ExitCode::kUsage) << "one session twice";
  EXPECT_EQ(code({{b.get(), few, 1}, {a.get(), wrong, 0}}), ExitCode::kBadInput);
  EXPECT_EQ(code({{b.get(), few, 1}, {foreign.get(), few, 0}}), ExitCode::kUsage);
  EXPECT_EQ(code({{b.get(), many, 0}}), ExitCode::kUsage);
  EXPECT_EQ(code({{b.get(), few, 0}, {a.get(), std::span(many).first(5), 0}}), ExitCode::kUsage) << "the second is full";
  EXPECT_EQ(b->n_past(), 0u) << "a refused call leaves all sessions as they were";
  EXPECT_EQ(code({}), ExitCode::kDone);
  EXPECT_EQ(code({{a.get(), few, 0}, {b.get(), few, 1}}), ExitCode::kDone);
  EXPECT_EQ(code_of([&] { b->copy_prefix(*a, 4); }), ExitCode::kUsage) << "three are there";
  EXPECT_EQ(code_of([&] { foreign->copy_prefix(*a, 1); }), ExitCode::kUsage);
}

}  // namespace
}  // namespace tsubu
