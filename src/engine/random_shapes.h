// For tests: one small random model for each shape that the architectures have, to hold every computation on a graph to all.
#pragma once

#include <vector>

#include "engine/random_model.h"

namespace tsubu {

struct RandomShape {
  const char* name;
  RandomModelOptions options;
};

inline const std::vector<RandomShape>& random_shapes() {
  static const std::vector<RandomShape> shapes = {
      {"plain", {}},
      {"one_kv_head", random_options([](auto& o) { o.n_kv_heads = 1; })},
      {"half_split_head_norms", random_options([](auto& o) {
         o.rope = RopeSpec::Style::kHalfSplit;
         o.head_norms = true;
         o.head_dim = 6;  // 4 heads of 6 are not the embedding's 32
         o.n_rope_pairs = 3;
       })},
      {"partly_rotated", random_options([](auto& o) { o.n_rope_pairs = 2; })},
      {"sliding_window", random_options([](auto& o) { o.sliding_window = 7; })},
      {"long_sliding_window", random_options([](auto& o) { o.sliding_window = 20; })},
      {"longer_sliding_window", random_options([](auto& o) { o.sliding_window = 50; })},
      {"gpt2", random_options([](auto& o) { o.gpt2 = true; })},
      {"gemma", random_options([](auto& o) {
         o.gemma = true;
         o.sliding_window = 7;
       })},
      {"opt", random_options([](auto& o) {
         o.gpt2 = true;
         o.activation = OpKind::kRelu;
         o.first_position = 2;
       })},
      {"exact_gelu", random_options([](auto& o) {
         o.gpt2 = true;
         o.activation = OpKind::kGeluErf;
       })},
      {"alibi", random_options([](auto& o) { o.max_alibi_bias = 8; })},
      {"experts", random_options([](auto& o) {
         o.n_experts = 5;
         o.n_used = 2;
       })},
      {"one_expert_q8_0", random_options([](auto& o) {
         o.n_experts = 3;
         o.n_used = 1;
         o.type = "Q8_0";
         o.n_ff = 64;
       })},
      {"gpt_oss", random_options([](auto& o) {
         o.oai = true;
         o.n_experts = 4;
         o.n_used = 3;
         o.sliding_window = 9;
       })},
      {"deepseek_v2_lite", random_options([](auto& o) {
         o.kv_latent = 20;
         o.value_dim = 6;
         o.head_dim = 14;
         o.n_dense_layers = 1;
         o.n_experts = 6;
         o.n_used = 2;
         o.n_ff_shared = 24;
       })},
      {"deepseek_v2", random_options([](auto& o) {
         o.kv_latent = 16;
         o.q_latent = 24;
         o.value_dim = 10;
         o.head_dim = 12;
         o.n_rope_pairs = 3;
         o.n_experts = 6;
         o.n_used = 3;
         o.route = {.weights = RouteWeights::kSoftmaxAll, .n_groups = 3, .n_groups_used = 2, .group_top = 1};
         o.expert_scale = 2.5f;
       })},
      {"deepseek_v3", random_options([](auto& o) {
         o.kv_latent = 16;
         o.q_latent = 24;
         o.value_dim = 8;
         o.head_dim = 10;
         o.n_rope_pairs = 2;
         o.n_dense_layers = 1;
         o.n_experts = 12;
         o.n_used = 4;
         o.n_ff_shared = 16;
         o.route = {.weights = RouteWeights::kSigmoidChosen, .n_groups = 4, .n_groups_used = 2};
         o.route_bias = true;
         o.expert_scale = 1.5f;
       })},
      {"sigmoid_experts", random_options([](auto& o) {
         o.n_experts = 4;
         o.n_used = 2;
         o.route = {.weights = RouteWeights::kSigmoid};
         o.route_bias = true;
       })},
      {"deepseek_q8_0", random_options([](auto& o) {
         o.kv_latent = 32;
         o.value_dim = 32;
         o.head_dim = 40;
         o.n_ff = 64;
         o.n_experts = 4;
         o.type = "Q8_0";
       })},
      {"q8_0", random_options([](auto& o) {
         o.type = "Q8_0";
         o.n_ff = 64;
       })},
      {"f16", random_options([](auto& o) { o.type = "F16"; })},
  };
  return shapes;
}

}  // namespace tsubu
