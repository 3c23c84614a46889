// Hyper-parameters out of config.json: defaults, bounds, rope rules; mutated and hostile configurations.
#include <gtest/gtest.h>

#include <cmath>

#include "base/progress.h"
#include "container/test_bytes.h"
#include "model/config_fuzz_body.h"
#include "model/config_reader.h"
#include "model/rope_scaling.h"
#include "model/test_models.h"

namespace tsubu {
namespace {

Hparams llama_hparams(const Json& config) {
  return find_architecture("llama")->hparams_from_config(config, "config.json");
}

TEST(Config, Defaults) {
  Json config = tiny_llama().config;
  for (const char* key : {"num_key_value_heads", "head_dim", "rms_norm_eps", "rope_theta", "tie_word_embeddings"})
    config.erase(key);
  config["rope_scaling"] = nullptr;
  const Hparams h = llama_hparams(config);
  EXPECT_EQ(h.n_kv_heads, 4u);
  EXPECT_EQ(h.head_dim, 4u);
  EXPECT_EQ(h.norm_eps, 1e-6);
  EXPECT_EQ(h.rope_base, 10000.0);
  EXPECT_FALSE(h.tied_embeddings);
  EXPECT_TRUE(find_architecture("gpt2")->hparams_from_config(tiny_gpt2().config, "").tied_embeddings);
  Json gpt2 = tiny_gpt2().config;
  gpt2["n_inner"] = nullptr;
  EXPECT_EQ(find_architecture("gpt2")->hparams_from_config(gpt2, "").n_ff, 4 * kTinyEmbd);
}

TEST(Config, AbsurdValuesAreRefusedWithTheKey) {
  const std::vector<std::string> keys = {"hidden_size",         "intermediate_size", "num_hidden_layers",
                                         "num_attention_heads", "vocab_size",        "max_position_embeddings"};
  const std::vector<Json> values = {-1, 0, 1e9 + 0.5, 1e300, "16", Json::array({16}), true, uint64_t{1} << 62, -1e9};
  for (const std::string& key : keys) {
    for (const Json& value : values) {
      Json config = tiny_llama().config;
      config[key] = value;
      const std::string message = error_of([&] { llama_hparams(config); });
      EXPECT_NE(message.find("config.json: " + key + ": expected"), std::string::npos) << message;
      EXPECT_NE(message.find(value.dump().substr(0, 5)), std::string::npos) << message;
    }
    for (const bool null : {false, true}) {
      Json config = tiny_llama().config;
      if (null) config[key] = nullptr;
      if (!null) config.erase(key);
      EXPECT_NE(error_of([&] { llama_hparams(config); }).find(key + " is missing"), std::string::npos);
    }
  }
  for (const auto& [key, value] :
       std::initializer_list<std::pair<const char*, Json>>{{"num_hidden_layers", 1000000000},
                                                           {"num_key_value_heads", 3},
                                                           {"num_key_value_heads", 0},
                                                           {"head_dim", 5},
                                                           {"head_dim", -4},
                                                           {"rms_norm_eps", 0},
                                                           {"rms_norm_eps", "1e-5"},
                                                           {"rope_theta", 0},
                                                           {"rope_theta", -1e4},
                                                           {"tie_word_embeddings", 1},
                                                           {"rope_scaling", 3},
                                                           {"rope_scaling", {{"rope_type", 7}}},
                                                           {"rope_scaling", {{"rope_type", "linear"}}},
                                                           {"rope_scaling", {{"type", "linear"}, {"factor", 0}}}}) {
    Json config = tiny_llama().config;
    config[key] = value;
    error_of([&] { llama_hparams(config); });
  }
  error_of([] { llama_hparams(Json::array()); });
}

// What a configuration of one of the later architectures may say wrongly: the message names it.
TEST(Config, WrongValuesOfEveryArchitecture) {
  struct Wrong {
    TinyModel model;
    const char* key;
    Json value;
    const char* message;
  };
  const std::vector<Wrong> all = {
      {tiny_gemma2(), "hidden_act", "silu", "hidden_act \"silu\" is not supported (gelu_pytorch_tanh is)"},
      {tiny_gemma2(), "layer_types", Json::array({"full_attention"}), "expected 2 of them, one for each layer, found 1"},
      {tiny_gemma2(), "layer_types", Json::array({"full_attention", "chunked"}), "\"chunked\" is not supported"},
      {tiny_gemma2(), "query_pre_attn_scalar", 0, "query_pre_attn_scalar: expected a number"},
      {tiny_gemma3(), "attn_logit_softcapping", 50.0, "has no counterpart in GGUF's \"gemma3\""},
      {tiny_gemma3(), "use_bidirectional_attention", true, "this is no causal model"},
      {tiny_gemma3(), "rope_parameters",
       {{"full_attention", {{"rope_type", "spiral"}}}, {"sliding_attention", {{"rope_type", "default"}}}},
       "rope type \"spiral\" is not supported"},
      {tiny_phi3(), "rope_scaling", {{"type", "longrope"}, {"short_factor", {1.0}}, {"long_factor", {1.0, 1.0}}},
       "short_factor: expected 2 factors, one for each pair of 4 rotated dimensions, found 1"},
      {tiny_phi3(), "rope_scaling", {{"type", "longrope"}, {"short_factor", {1.0, 1.0}}}, "\"long_factor\" is missing"},
      {tiny_phi3(), "rope_scaling", {{"type", "longrope"}, {"short_factor", {1.0, "x"}}}, "expected a list of numbers"},
      {tiny_llama(), "rope_scaling", {{"type", "longrope"}, {"short_factor", {1.0, 1.0}}, {"long_factor", {1.0, 1.0}}},
       "\"longrope\" has no counterpart in GGUF's \"llama\""},
      {tiny_qwen3(), "num_experts", 8, "mixtures of experts are not supported in architecture \"qwen3\""},
      {tiny_mixtral(), "num_experts_per_tok", 5, "5 of 4 experts for each token"},
      {tiny_mixtral(), "num_experts_per_tok", nullptr, "num_experts_per_tok is missing"},
      {tiny_qwen3moe(), "num_local_experts", nullptr, "num_experts is missing"},
      {tiny_qwen3moe(), "norm_topk_prob", false, "has no counterpart in GGUF's \"qwen3moe\""},
      {tiny_qwen3moe(), "decoder_sparse_step", 2, "layers without experts"},
      {tiny_qwen3moe(), "mlp_only_layers", Json::array({0}), "layers without experts"},
      {tiny_deepseek2(), "norm_topk_prob", true, "is not supported for DeepSeek V2"},
      {tiny_deepseek2(), "attention_bias", true, "attention_bias has no counterpart"},
      {tiny_deepseek3(), "rope_interleave", false, "has no counterpart in GGUF's \"deepseek2\""},
      {tiny_deepseek3(), "topk_group", 3, "groups of one size"},
      {tiny_deepseek3(), "n_group", 3, "groups of one size"},
      {tiny_deepseek3(), "topk_method", "other", "topk_method"},
      {tiny_deepseek3(), "rope_scaling", {{"type", "yarn"}, {"factor", 4.0}}, "mscale and mscale_all_dim"},
      {tiny_gpt_oss(), "swiglu_limit", 5.0, "swiglu_limit other than 7"},
      {tiny_opt(), "word_embed_proj_dim", 8, "word_embed_proj_dim 8, hidden_size 16"},
      {tiny_opt(), "do_layer_norm_before", false, "norms behind attention"},
      {tiny_opt(), "enable_bias", false, "linears without biases"},
      {tiny_opt(), "activation_function", "swish", "activation \"swish\" is not supported"},
      {tiny_opt(), "num_attention_heads", 5, "an embedding of 16 is no multiple of 5 heads"},
      {tiny_bloom(), "apply_residual_connection_post_layernorm", true, "is not supported"},
      {tiny_bloom(), "n_head", 3, "no multiple of 3 heads"},
      {tiny_gptneox(), "attention_bias", false, "has no counterpart in GGUF's \"gptneox\""},
      {tiny_gptneox(), "rotary_pct", 0.8, "cannot be rotated in pairs"},
  };
  for (const Wrong& wrong : all) {
    const std::string class_name = wrong.model.config["architectures"][0];
    const Architecture* found = nullptr;
    for (const Architecture* a : architectures())
      for (std::string_view name : a->hf_architectures())
        if (name == class_name) found = a;
    ASSERT_NE(found, nullptr) << class_name;
    Json config = wrong.model.config;
    EXPECT_NO_THROW(found->hparams_from_config(config, "config.json")) << class_name;
    config[wrong.key] = wrong.value;
    std::string message;
    try {
      found->hparams_from_config(config, "config.json");
    } catch (const Error& e) {
      message = e.what();
      EXPECT_TRUE(e.code() == ExitCode::kBadInput || e.code() == ExitCode::kUnsupported) << message;
    }
    EXPECT_NE(message.find(wrong.message), std::string::npos) << class_name << " " << wrong.key << ": " << message;
  }
}

TEST(Config, WholeNumbersMayBeWrittenAsFloats) {
  Json config = tiny_llama().config;
  config["hidden_size"] = 16.0;
  EXPECT_EQ(llama_hparams(config).n_embd, 16u);
}

// Expected: transformers 5.23, modeling_rope_utils, F32 (so a few units of 2^-24 are its rounding).
void expect_frequencies(const Json& rule, uint32_t n_ctx, const std::vector<double>& expected, double magnitude) {
  Json config = tiny_llama().config;
  config["head_dim"] = 32;
  config["num_attention_heads"] = 2;
  config["max_position_embeddings"] = n_ctx;
  config.erase("rope_theta");
  config["rope_parameters"] = rule;
  const RopeSpec spec = make_rope(llama_hparams(config), RopeSpec::Style::kInterleaved);
  ASSERT_EQ(spec.inverse_frequencies.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(spec.inverse_frequencies[i] / expected[i], 1, 8 * 0x1p-24) << i;
  EXPECT_FLOAT_EQ(spec.magnitude, static_cast<float>(magnitude));
}

// Factors divide the frequencies; which ones, the length of the sequence decides. Magnitude: sqrt(1 + ln(4) / ln(32)).
TEST(Rope, LongRope) {
  const Hparams h = find_architecture("phi3")->hparams_from_config(tiny_phi3().config, "config.json");
  const RopeSpec spec = make_rope(h, RopeSpec::Style::kHalfSplit);
  ASSERT_EQ(spec.inverse_frequencies.size(), 2u);
  const double second = std::pow(20000.0, -0.5);
  EXPECT_FLOAT_EQ(spec.inverse_frequencies[0], 1.0f);
  EXPECT_FLOAT_EQ(spec.inverse_frequencies[1], static_cast<float>(second / 1.5));
  EXPECT_FLOAT_EQ(spec.long_inverse_frequencies[0], 0.5f);
  EXPECT_FLOAT_EQ(spec.long_inverse_frequencies[1], static_cast<float>(second / 3.5));
  EXPECT_EQ(spec.long_from, 32u);
  EXPECT_FLOAT_EQ(spec.magnitude, static_cast<float>(std::sqrt(1 + std::log(4.0) / std::log(32.0))));
}

TEST(Rope, Llama3) {
  expect_frequencies({{"rope_type", "llama3"},
                      {"rope_theta", 500000.0},
                      {"factor", 8.0},
                      {"low_freq_factor", 1.0},
                      {"high_freq_factor", 4.0},
                      {"original_max_position_embeddings", 8192}},
                     131072,
                     {1.0, 0.440366626, 0.193922758, 0.0853971019, 0.0376060307, 0.0165604409, 0.00729266508,
                      0.00321144611, 0.000524846022, 7.78465546e-05, 3.42810235e-05, 1.50962178e-05, 6.64786967e-06,
                      2.92749974e-06, 1.28917316e-06, 5.6770881e-07},
                     1);
}

TEST(Rope, Linear) {
  expect_frequencies({{"rope_type", "linear"}, {"rope_theta", 10000.0}, {"factor", 3.0}}, 1024,
                     {0.333333343, 0.187447116, 0.105409257, 0.059275981, 0.0333333351, 0.018744709, 0.0105409259,
                      0.0059275981, 0.00333333318, 0.00187447108, 0.00105409266, 0.00059275981, 0.000333333359,
                      0.000187447105, 0.000105409265, 5.92759789e-05},
                     1);
}

TEST(Rope, Yarn) {
  expect_frequencies(
      {{"rope_type", "yarn"}, {"rope_theta", 10000.0}, {"factor", 4.0}, {"original_max_position_embeddings", 256}},
      1024,
      {1.0, 0.502090454, 0.248464689, 0.120668955, 0.0571428537, 0.0261087008, 0.011293849, 0.00444569858,
       0.00249999994, 0.00140585331, 0.000790569466, 0.000444569858, 0.000250000012, 0.000140585325, 7.90569466e-05,
       4.44569851e-05},
      1.138629436111989);
  expect_frequencies(
      {{"rope_type", "yarn"},
       {"rope_theta", 10000.0},
       {"factor", 16.0},
       {"beta_fast", 16},
       {"beta_slow", 2},
       {"mscale", 0.707},
       {"mscale_all_dim", 0.5},
       {"original_max_position_embeddings", 4096}},
      1024,
      {1.0, 0.562341332, 0.316227764, 0.177827939, 0.100000001, 0.0562341288, 0.0316227786, 0.0144485207, 0.00625000009,
       0.00246024318, 0.000790569407, 0.000111142464, 6.2500003e-05, 3.51463314e-05, 1.97642366e-05, 1.11142463e-05},
      1.050404973497206);
}

TEST(Rope, YarnGoesThroughGguf) {
  for (const Json& attention_factor : {Json(), Json(1.3)}) {
    Json config = tiny_qwen2().config;
    config["rope_parameters"] = {{"rope_type", "yarn"},
                                 {"factor", 4.0},
                                 {"original_max_position_embeddings", 32},
                                 {"rope_theta", 10000.0},
                                 {"attention_factor", attention_factor}};
    const Architecture& qwen2 = *find_architecture("qwen2");
    const Hparams h = qwen2.hparams_from_config(config, "");
    GgufMetadata metadata;
    qwen2.hparams_to_gguf(h, metadata);
    const RopeSpec a = make_rope(h, RopeSpec::Style::kHalfSplit);
    const RopeSpec b = make_rope(qwen2.hparams_from_gguf(metadata, ""), RopeSpec::Style::kHalfSplit);
    EXPECT_EQ(a.inverse_frequencies, b.inverse_frequencies);
    EXPECT_FLOAT_EQ(a.magnitude, b.magnitude);
    EXPECT_FLOAT_EQ(a.magnitude, attention_factor.is_null() ? 0.1f * std::log(4.0f) + 1 : 1.3f);
  }
}

TEST(ConfigFuzz, CorpusReplay) {
  set_quiet(true);
  size_t n_files = 0, n_accepted = 0;
  for (const auto& file : std::filesystem::directory_iterator(TSUBU_SOURCE_DIR "/tests/fuzz/config")) {
    SCOPED_TRACE(file.path().string());
    n_accepted += try_config(read_text_file(file.path().string())) > 0;
    ++n_files;
  }
  set_quiet(false);
  EXPECT_GE(n_accepted, 4u);
  EXPECT_GT(n_files, n_accepted);
}

// Every byte of a configuration replaced, every prefix, every value replaced by hostile ones: refused or usable.
TEST(ConfigFuzz, Mutations) {
  set_quiet(true);
  Json rope = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}};
  const Json hostile[] = {nullptr,    -1,        0,  1,   3,    1e308,         -1e308,         0.5,   4294967295u,
                          UINT64_MAX, INT64_MIN, "", "x", true, Json::array(), Json::object(), 1e-320};
  for (const TinyModel& tiny : {tiny_llama(), tiny_qwen3(), tiny_gpt2(), tiny_gemma3(), tiny_phi3(), tiny_mixtral(),
                                tiny_gptneox()}) {
    Json config = tiny.config;
    config["rope_scaling"] = rope;
    const std::string text = config.dump();
    ASSERT_GE(try_config(text), 1u);
    for (size_t n = 0; n < text.size(); ++n) EXPECT_EQ(try_config(text.substr(0, n)), 0u);
    for (size_t i = 0; i < text.size(); ++i)
      for (const char c : {'\0', '"', '9', '-', 'e', '{', '\xff'}) {
        std::string changed = text;
        changed[i] = c;
        try_config(changed);
      }
    for (const auto& [key, old] : config.items())
      for (const Json& value : hostile) {
        Json changed = config;
        changed[key] = value;
        try_config(changed.dump());
      }
    for (const char* kind : {"yarn", "llama3", "linear"})
      for (const char* key : {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor",
                              "beta_fast", "beta_slow", "attention_factor", "mscale", "rope_theta"})
        for (const Json& value : hostile) {
          Json changed = config;
          changed["rope_scaling"]["rope_type"] = kind;
          changed["rope_scaling"][key] = value;
          try_config(changed.dump());
        }
  }
  set_quiet(false);
}

}  // namespace
}  // namespace tsubu
