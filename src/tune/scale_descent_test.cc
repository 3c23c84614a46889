#include "tune/scale_descent.h"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

#include "base/error.h"
#include "base/progress.h"
#include "codec/grid.h"
#include "engine/random_model.h"
#include "tune/scale_fields.h"

namespace tsubu {
namespace {

constexpr float kWrong = 1.1f;  // what all scales are too large by

// A model whose linears were rounded to a type, with scales that are off.
struct Rounded {
  explicit Rounded(const std::string& type_name) : model(random_options([](auto& o) { o.n_ff = 64; })) {
    const TypeInfo& type = type_named(type_name);
    for (const ModelTensor& t : model.tensors()) {
      if (t.spec().shape.size() < 2 || t.name() == "token_embd.weight") continue;
      std::vector<float> row(t.n_cols());
      std::vector<std::byte>& to = bytes[t.name()];
      const size_t row_bytes = t.n_cols() / type.block_len * type.block_bytes;
      to.resize(t.n_rows() * row_bytes);
      for (size_t r = 0; r < t.n_rows(); ++r) {
        t.read_rows(r, 1, row.data());
        type.encode(row.data(), nullptr, to.data() + r * row_bytes, row.size());
      }
      for (size_t block = 0; block < to.size(); block += type.block_bytes)
        for (uint32_t field : scale_fields(type)) {
          Half h;
          std::memcpy(h.bytes, to.data() + block + field, sizeof h.bytes);
          h = Half::of(h.value() * kWrong);
          std::memcpy(to.data() + block + field, h.bytes, sizeof h.bytes);
        }
      encoded[t.name()] = {&type, to};
    }
    corpus.context = 40;
    for (uint32_t i = 0; i < 32; ++i) corpus.chunks.push_back(random_tokens(corpus.context, 50, 100 + i));
  }
  ScaleDescentResult tuned(int n_threads, ScaleDescentOptions options = {}) const {
    options.epochs = 20;
    options.rate = 0.01;
    options.tokens_per_step = 80;
    ThreadPool pool(n_threads);
    return tune_scales(model, encoded, corpus, options, pool);
  }
  RandomModel model;
  std::map<std::string, std::vector<std::byte>> bytes;
  std::map<std::string, EncodedTensor> encoded;
  Corpus corpus;
};

TEST(ScaleFields, BlocksAreLinearInThem) {
  for (const TypeInfo& type : types()) {
    const auto fields = scale_fields(type);
    if (fields.empty()) continue;
    std::mt19937 random(3);
    std::vector<std::byte> block(type.block_bytes);
    for (std::byte& b : block) b = static_cast<std::byte>(random());
    std::vector<float> sum(type.block_len), part(type.block_len), whole(type.block_len), size(type.block_len);
    const float values[2] = {0.37f, -0.21f};
    const auto decode = [&](std::span<const float> scales, std::vector<float>& out) {
      for (size_t f = 0; f < fields.size(); ++f) {
        const Half h = Half::of(scales[f]);
        std::memcpy(block.data() + fields[f], h.bytes, sizeof h.bytes);
      }
      type.decode(block.data(), out.data(), type.block_len);
    };
    decode(values, whole);
    for (size_t f = 0; f < fields.size(); ++f) {
      float one[2] = {0, 0};
      one[f] = 1;
      decode(one, part);
      for (size_t i = 0; i < part.size(); ++i) {
        sum[i] += part[i] * Half::of(values[f]).value();
        size[i] += std::fabs(part[i]);
      }
    }
    // A few roundings of products and of their sum.
    for (size_t i = 0; i < sum.size(); ++i) EXPECT_NEAR(whole[i], sum[i], 8 * 0x1p-24f * size[i]) << type.name << " " << i;
  }
}

class EveryField : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Tune, EveryField, ::testing::Values("Q4_0", "Q4_1", "Q8_0"),
                         [](const auto& p) { return std::string(p.param); });

TEST_P(EveryField, ScalesThatAreOffAreFoundAndNothingElseChanges) {
  const Rounded rounded(GetParam());
  ScaleDescentOptions options;
  options.gains = false;
  options.code_rate = 0;
  const ScaleDescentResult result = rounded.tuned(2, options);
  EXPECT_GT(result.before, 0);
  EXPECT_LT(result.after, result.before / 2);
  ASSERT_EQ(result.tensors.size(), rounded.encoded.size());
  for (const auto& [name, tuned] : result.tensors) {
    const EncodedTensor& e = rounded.encoded.at(name);
    ASSERT_EQ(tuned.size(), e.bytes.size());
    size_t n_changed = 0;
    for (size_t i = 0; i < tuned.size(); ++i) {
      if (tuned[i] == e.bytes[i]) continue;
      ++n_changed;
      bool in_field = false;
      for (uint32_t f : scale_fields(*e.type)) in_field |= i % e.type->block_bytes - f < sizeof(Half);
      EXPECT_TRUE(in_field) << name << " byte " << i;
    }
    EXPECT_GT(n_changed, 0u) << name;
  }
}

// Codes that are off by one are found again, where scales cannot make up for them.
TEST(ScaleDescent, CodesMoveToo) {
  Rounded rounded("Q4_0");
  std::mt19937 random(5);
  for (auto& [name, bytes] : rounded.bytes)
    for (size_t block = 0; block < bytes.size(); block += rounded.encoded.at(name).type->block_bytes) {
      const GridAccess& grid = *rounded.encoded.at(name).type->grid;
      GridBlock b;
      grid.unpack(bytes.data() + block, b);
      b.d = Half::of(b.d.value() / kWrong);
      for (int i = 0; i < grid.spec.block_len; ++i)
        if (random() % 8 == 0) b.codes[i] = static_cast<uint8_t>(b.codes[i] > 0 ? b.codes[i] - 1 : 1);
      grid.pack(b, bytes.data() + block);
    }
  ScaleDescentOptions scales_alone;
  scales_alone.code_rate = 0;
  const ScaleDescentResult without = rounded.tuned(2, scales_alone), with = rounded.tuned(2);
  EXPECT_LT(with.after, 0.9 * without.after);
  ScaleDescentOptions small;
  small.code_memory = 1000;
  EXPECT_EQ(rounded.tuned(2, small).after, without.after);
}

TEST(ScaleDescent, DoesNotDependOnThreads) {
  const Rounded rounded("Q4_0");
  const ScaleDescentResult one = rounded.tuned(1), three = rounded.tuned(3);
  EXPECT_EQ(one.after, three.after);
  EXPECT_TRUE(one.tensors.contains("output_norm.weight"));
  EXPECT_EQ(one.tensors, three.tensors);
}

// Interrupted again and again, each time a little later, and gone on with: the bytes of a run that was left alone.
TEST(ScaleDescent, GoesOnFromACheckpointToTheSameBytes) {
  const Rounded rounded("Q4_0");
  const ScaleDescentResult whole = rounded.tuned(1);
  ASSERT_FALSE(whole.tensors.empty());
  ScaleDescentOptions options;
  options.checkpoint = ::testing::TempDir() + "tsubu_scale_descent.safetensors";
  std::filesystem::remove(options.checkpoint);
  install_interrupt_handler();
  size_t n_interrupts = 0;
  for (int part = 0;; ++part) {
    ASSERT_LT(part, 1000) << "no progress";
    const pid_t child = fork();  // the interrupt's flag stays set for the life of a process
    if (child == 0) {
      set_quiet(true);
      std::thread([part] {
        std::this_thread::sleep_for(std::chrono::milliseconds(40 + 2 * part));
        raise(SIGINT);
      }).detach();
      try {
        const ScaleDescentResult r = rounded.tuned(1, options);
        const bool same = r.tensors == whole.tensors && r.before == whole.before && r.after == whole.after;
        _exit(!same ? 7 : r.first_step > 0 ? 0 : 9);
      } catch (const Error& e) {
        _exit(e.code() == ExitCode::kInterrupted ? 1 : 8);
      }
    }
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status));
    ASSERT_TRUE(WEXITSTATUS(status) <= 1) << WEXITSTATUS(status);
    if (WEXITSTATUS(status) == 0) break;
    ++n_interrupts;
  }
  EXPECT_GT(n_interrupts, 0u);
  // Another run does not take it.
  options.checkpoint_key = "another";
  EXPECT_EQ(rounded.tuned(1, options).first_step, 0u);
  std::filesystem::remove(options.checkpoint);
}

TEST(ScaleDescent, KeepsNothingThatDoesNotHelpOnHeldOutText) {
  const Rounded rounded("Q4_0");
  ScaleDescentOptions options;
  options.held_out = 0;  // nothing to judge by
  EXPECT_TRUE(rounded.tuned(1, options).tensors.empty());
  // Weights that are exact already: every step leads away.
  Rounded exact("Q8_0");
  exact.encoded.clear();
  const ScaleDescentResult result = exact.tuned(1);
  EXPECT_NEAR(result.before, 0, 1e-6);
  EXPECT_TRUE(result.tensors.empty());
}

}  // namespace
}  // namespace tsubu
