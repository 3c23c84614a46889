// Compact caches: rows against their formats, attention against the same rows kept as floats, forgetting, memory.
#include "engine/kv_format.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "engine/attention.h"
#include "engine/random_model.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

const char* const kFormats[] = {"f16",
                                "bf16",
                                "q8_0",
                                "q4_0",
                                "q5_1",
                                "iq4_nl",
                                "fp8_e4m3:unit",
                                "fp8_e4m3:token",
                                "fp8_e5m2:unit",
                                "int8:token",
                                "int4:token",
                                "int4:group=16",
                                "fp4_e2m1:group=24"};

bool same_bytes(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<float> random_values(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

std::vector<float> round_trip(const KvFormat& format, const std::vector<float>& x) {
  std::vector<std::byte> row(format.row_bytes(x.size()) + 1, std::byte{0x5a});
  std::vector<float> y(x.size());
  format.encode(x.data(), row.data(), x.size());
  EXPECT_EQ(row.back(), std::byte{0x5a});
  format.decode(row.data(), y.data(), x.size());
  return y;
}

TEST(KvFormat, RowsAreCompact) {
  const auto bytes = [](const char* name, size_t head_dim) { return KvFormat::parse(name).row_bytes(head_dim); };
  EXPECT_EQ(bytes("f32", 64), 256u);
  EXPECT_EQ(bytes("f16", 64), 128u);
  EXPECT_EQ(bytes("q8_0", 64), 68u);
  EXPECT_EQ(bytes("q4_0", 64), 36u);
  EXPECT_EQ(bytes("fp8_e4m3:unit", 64), 64u);
  EXPECT_EQ(bytes("fp8_e4m3:token", 64), 68u);
  EXPECT_EQ(bytes("int4:token", 64), 36u);
  EXPECT_EQ(bytes("int4:token", 7), 8u);
  EXPECT_EQ(bytes("int8:group=16", 40), 52u);
  EXPECT_EQ(bytes("fp6_e3m2:unit", 64), 64u) << "a byte each";
}

TEST(KvFormat, SchemesRoundAsTheirFormatsDo) {
  for (const char* name : kFormats) {
    if (!std::strchr(name, ':')) continue;
    const Scheme scheme = parse_scheme(name, SchemeUse::kCache);
    const KvFormat format = KvFormat::parse(name);
    EXPECT_EQ(format.name(), name);
    for (size_t head_dim : {1, 7, 64, 80}) {
      std::vector<float> x = random_values(head_dim, 1);
      x[0] = 1000.0f;
      const std::vector<float> y = round_trip(format, x);
      const size_t group = scheme.columns_per_scale(head_dim);
      for (size_t i = 0; i < head_dim; ++i) {
        float amax = 0;
        for (size_t j = i / group * group; j < std::min(head_dim, (i / group + 1) * group); ++j)
          amax = std::max(amax, std::abs(x[j]));
        const float scale = scheme.scale_of(amax);
        EXPECT_EQ(y[i], scheme.format->decode(scheme.format->encode(x[i] / scale)) * scale) << name << " " << i;
      }
    }
    EXPECT_EQ(round_trip(format, std::vector<float>(64)), std::vector<float>(64)) << name;
  }
}

TEST(KvFormat, CodecsRoundAsTheyDoInFiles) {
  const std::vector<float> x = random_values(96, 2);
  for (const char* name : {"Q8_0", "Q4_0", "F16"}) {
    const TypeInfo& type = type_named(name);
    std::vector<std::byte> blocks(96 / type.block_len * type.block_bytes);
    std::vector<float> y(96);
    type.encode(x.data(), nullptr, blocks.data(), 96);
    type.decode(blocks.data(), y.data(), 96);
    EXPECT_TRUE(same_bytes(round_trip(KvFormat::parse(name), x), y)) << name;
    EXPECT_EQ(KvFormat::parse(name).name(), name);
  }
  EXPECT_TRUE(same_bytes(round_trip(KvFormat(), x), x));
}

TEST(KvFormat, Refuses) {
  const auto code = [](const std::function<void()>& f) {
    try {
      f();
    } catch (const Error& e) {
      return e.code();
    }
    return ExitCode::kDone;
  };
  EXPECT_EQ(code([] { KvFormat::parse("q9_9"); }), ExitCode::kUsage);
  EXPECT_EQ(code([] { KvFormat::parse("q4_k"); }), ExitCode::kUsage) << "blocks of 256";
  EXPECT_EQ(code([] { KvFormat::parse("i32"); }), ExitCode::kUsage);
  EXPECT_EQ(code([] { KvFormat::parse("int8:channel"); }), ExitCode::kUsage);
  EXPECT_EQ(code([] { KvFormat::parse("q8_0").row_bytes(40); }), ExitCode::kUsage);
  EXPECT_EQ(code([] { parse_kv_formats("q8_0/"); }), ExitCode::kUsage);
  EXPECT_EQ(code([] { parse_kv_formats("/q8_0"); }), ExitCode::kUsage);
  for (const char* name : kFormats) {
    std::vector<float> x = random_values(96, 3);
    x[70] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(code([&] { round_trip(KvFormat::parse(name), x); }), ExitCode::kNumeric) << name;
  }
  EXPECT_EQ(parse_kv_formats("q8_0/q4_0").keys.name(), "Q8_0");
  EXPECT_EQ(parse_kv_formats("q8_0/q4_0").values.name(), "Q4_0");
  EXPECT_EQ(parse_kv_formats("f16").values.name(), "F16");
}

// Attention over a compact cache has the bits of attention over a cache of floats that went through the format.
TEST(KvCacheFormats, AttendAsOverTheRoundedFloats) {
  const size_t head_dim = 96, n_kv_heads = 2, n_tokens = 300;
  for (const size_t window : {size_t{0}, size_t{37}}) {
    const AttentionShape shape = {4, n_kv_heads, head_dim, head_dim, 0.1f, window};
    const std::vector<float> q = random_values(n_tokens * 4 * head_dim, 4),
                             k = random_values(n_tokens * 2 * head_dim, 5),
                             v = random_values(n_tokens * 2 * head_dim, 6);
    for (const char* name : {"q8_0/q4_0", "f32/q8_0", "fp8_e4m3:token/f32", "int4:group=20"}) {
      const KvFormats formats = parse_kv_formats(name);
      const CacheShape cache_shape{n_kv_heads, head_dim, head_dim};
      const KvCache compact(nullptr, std::span(&cache_shape, 1), 310, formats),
          floats(nullptr, std::span(&cache_shape, 1), 310);
      for (size_t t = 0; t < n_tokens; ++t) {
        std::vector<float> key, value;
        for (size_t h = 0; h < n_kv_heads; ++h) {
          const auto at = static_cast<ptrdiff_t>((t * n_kv_heads + h) * head_dim),
                     end = at + static_cast<ptrdiff_t>(head_dim);
          const auto rounded_key = round_trip(formats.keys, {k.begin() + at, k.begin() + end});
          const auto rounded_value = round_trip(formats.values, {v.begin() + at, v.begin() + end});
          key.insert(key.end(), rounded_key.begin(), rounded_key.end());
          value.insert(value.end(), rounded_value.begin(), rounded_value.end());
        }
        compact.layer(0).store(k.data() + t * n_kv_heads * head_dim, v.data() + t * n_kv_heads * head_dim, t);
        floats.layer(0).store(key.data(), value.data(), t);
      }
      AttentionScratch scratch, other;
      ThreadPool pool(2);
      std::vector<float> y(q.size()), want(q.size());
      attend(shape, compact.layer(0), 0, q.data(), y.data(), n_tokens, scratch, pool);
      attend(shape, floats.layer(0), 0, q.data(), want.data(), n_tokens, other, pool);
      EXPECT_TRUE(same_bytes(y, want)) << name << " window " << window;
    }
  }
}

std::vector<float> run(const Model& model, const std::vector<TokenId>& tokens, const EngineOptions& options,
                       const std::vector<size_t>& cuts = {}, int n_threads = 2) {
  ThreadPool pool(n_threads);
  const auto engine = Engine::make(model, pool, options);
  const auto session = engine->new_session(tokens.size());
  std::vector<float> logits(tokens.size() * engine->n_vocab());
  size_t begin = 0;
  const auto feed = [&](size_t n) {
    engine->forward(*session, std::span(tokens).subspan(begin, n), n,
                    std::span(logits).subspan(begin * engine->n_vocab(), n * engine->n_vocab()));
    begin += n;
  };
  for (size_t n : cuts) feed(n);
  if (begin < tokens.size()) feed(tokens.size() - begin);
  return logits;
}

EngineOptions with_cache(const std::string& name) {
  EngineOptions options;
  options.numerics.cache = parse_kv_formats(name);
  return options;
}

RandomModelOptions wide_heads() {
  RandomModelOptions o;
  o.n_heads = 2;
  o.n_kv_heads = 1;
  o.head_dim = 96;  // a multiple of every block and group above
  return o;
}

TEST(KvCacheFormats, F16IsTheRoundingOfKvF16) {
  const RandomModel model(RandomModelOptions{});
  const std::vector<TokenId> tokens = random_tokens(40, 50, 7);
  EngineOptions rounding;
  rounding.kv_f16 = true;
  EXPECT_TRUE(same_bytes(run(model, tokens, with_cache("f16")), run(model, tokens, rounding)));
}

TEST(KvCacheFormats, CutsAndThreadsChangeNothing) {
  const RandomModel model(wide_heads());
  const std::vector<TokenId> tokens = random_tokens(60, 50, 8);
  for (const char* name : kFormats) {
    const std::vector<float> whole = run(model, tokens, with_cache(name));
    EXPECT_TRUE(same_bytes(whole, run(model, tokens, with_cache(name), {7, 1, 30}, 3))) << name;
    EXPECT_FALSE(same_bytes(whole, run(model, tokens, {}))) << name;
  }
}

// Halving the step of a format halves what it costs: each is within its own step, times what two layers make of it.
TEST(KvCacheFormats, CostsWhatItsStepsAllow) {
  const RandomModel model(wide_heads());
  const std::vector<TokenId> tokens = random_tokens(60, 50, 9);
  const std::vector<float> exact = run(model, tokens, {});
  const auto relative = [&](const std::string& name) {
    const std::vector<float> got = run(model, tokens, with_cache(name));
    double square = 0, error = 0;
    for (size_t i = 0; i < exact.size(); ++i) {
      square += std::pow(static_cast<double>(exact[i]), 2);
      error += std::pow(static_cast<double>(exact[i]) - static_cast<double>(got[i]), 2);
    }
    return std::sqrt(error / square);
  };
  // Steps as shares of a value: 2^-11, amax/254 of values about amax/3, 2^-4, amax/14. A score is a sum of head_dim
  // such errors with scores of a few units, as in engine_test's bound of f16: two layers, eight units.
  EXPECT_LE(relative("f16"), 2 * 8 * 0x1p-11);
  EXPECT_LE(relative("q8_0"), 2 * 8 * 3.0 / 254);
  EXPECT_LE(relative("fp8_e4m3:token"), 2 * 8 * 0x1p-4);
  EXPECT_LE(relative("q4_0"), 2 * 8 * 3.0 / 14);
  EXPECT_LT(relative("q8_0"), relative("q4_0"));
  EXPECT_LT(relative("f16"), relative("q8_0"));
  EXPECT_LT(relative("q8_0"), relative("fp8_e4m3:token"));
}

TEST(KvCacheFormats, TruncatedSessionsForget) {
  const RandomModel model(wide_heads());
  ThreadPool pool(1);
  const std::vector<TokenId> tokens = random_tokens(30, 50, 9), other = random_tokens(30, 50, 10);
  for (const char* name : kFormats) {
    const auto engine = Engine::make(model, pool, with_cache(name));
    const auto session = engine->new_session(64);
    std::vector<float> first(50), second(50);
    engine->forward(*session, tokens, 1, first);
    session->truncate(4);
    engine->forward(*session, other, 0, {});
    session->truncate(4);
    engine->forward(*session, std::span(tokens).subspan(4), 1, second);
    EXPECT_TRUE(same_bytes(first, second)) << name;
  }
}

TEST(KvCacheFormats, MemoryIsThatOfTheFormat) {
  const RandomModel model(wide_heads());  // two layers, one head of 96
  ThreadPool pool(1);
  const auto bytes = [&](const char* name) {
    return Engine::make(model, pool, with_cache(name))->new_session(64)->size_bytes();
  };
  EXPECT_EQ(bytes("f32"), 2u * 2 * 64 * 96 * 4);
  EXPECT_EQ(bytes("f16"), 2u * 2 * 64 * 96 * 2);
  EXPECT_EQ(bytes("q8_0"), 2u * 2 * 64 * 3 * 34);
  EXPECT_EQ(bytes("q8_0/q4_0"), 2u * 64 * 3 * (34 + 18));
}

TEST(KvCacheFormats, HeadsThatDoNotFitAreRefused) {
  const RandomModel model(RandomModelOptions{});  // heads of 8
  ThreadPool pool(1);
  const auto engine = Engine::make(model, pool, with_cache("q8_0"));
  try {
    engine->new_session(8);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("heads of 8"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace tsubu
