// Groups of linears as the graphs of the architectures give them.
#include "model/graph.h"

#include <gtest/gtest.h>

#include "model/architecture.h"
#include "model/test_models.h"

namespace tsubu {
namespace {

std::vector<LinearGroup> groups_of(const char* architecture, const Json& config) {
  const Architecture& a = *find_architecture(architecture);
  return linear_groups(a.graph(a.hparams_from_config(config, "")));
}

using Names = std::vector<std::string>;

TEST(LinearGroups, Llama) {
  const auto groups = groups_of("llama", tiny_llama().config);
  ASSERT_EQ(groups.size(), 2 * 4 + 1u);
  EXPECT_EQ(groups[0].norm_weight, "blk.0.attn_norm.weight");
  EXPECT_EQ(groups[0].linears, (Names{"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"}));
  EXPECT_EQ(groups[0].producer_linear, "");
  EXPECT_EQ(groups[1].linears, (Names{"blk.0.attn_output.weight"}));
  EXPECT_EQ(groups[1].norm_weight, "");
  EXPECT_EQ(groups[1].producer_linear, "");  // 2 value heads feed 4 query heads
  EXPECT_EQ(groups[2].norm_weight, "blk.0.ffn_norm.weight");
  EXPECT_EQ(groups[2].linears, (Names{"blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"}));
  EXPECT_EQ(groups[3].linears, (Names{"blk.0.ffn_down.weight"}));
  EXPECT_EQ(groups[3].producer_linear, "blk.0.ffn_up.weight");
  EXPECT_EQ(groups[4].layer, 1);
  EXPECT_EQ(groups[8].norm_weight, "output_norm.weight");
  EXPECT_EQ(groups[8].linears, (Names{"output.weight"}));
  EXPECT_EQ(groups[8].layer, -1);
}

TEST(LinearGroups, WithoutGroupedQueriesVFeedsTheOutputProjection) {
  Json config = tiny_llama().config;
  config["num_key_value_heads"] = 4;
  EXPECT_EQ(groups_of("llama", config)[1].producer_linear, "blk.0.attn_v.weight");
}

TEST(LinearGroups, Gpt2) {
  const auto groups = groups_of("gpt2", tiny_gpt2().config);
  ASSERT_EQ(groups.size(), 2 * 4 + 1u);
  EXPECT_EQ(groups[0].norm_weight, "blk.0.attn_norm.weight");
  EXPECT_EQ(groups[0].linears, (Names{"blk.0.attn_qkv.weight"}));
  EXPECT_EQ(groups[3].producer_linear, "");  // GELU is not linear in its input
  EXPECT_EQ(groups[8].linears, (Names{"token_embd.weight"}));
}

TEST(Graph, Qwen3NormsEachHead) {
  const Architecture& a = *find_architecture("qwen3");
  const Graph graph = a.graph(a.hparams_from_config(tiny_qwen3().config, ""));
  size_t n_head_norms = 0;
  for (const Op& op : graph.ops) {
    if (op.kind != OpKind::kRmsNorm || op.head_dim == 0) continue;
    EXPECT_EQ(op.head_dim, 6u);
    EXPECT_EQ(op.n_heads, n_head_norms % 2 == 0 ? 4u : 2u);
    ++n_head_norms;
  }
  EXPECT_EQ(n_head_norms, 4u);
  EXPECT_EQ(graph.ropes.size(), 1u);  // one rule, stored once
}

TEST(Roles, EveryRoleHasItsName) {
  EXPECT_EQ(role_name(Role::kTokenEmbedding), "token_embd");
  EXPECT_EQ(role_name(Role::kOutput), "output");
  EXPECT_EQ(role_name(Role::kAttnQkv), "attn_qkv");
  EXPECT_EQ(role_name(Role::kFfnDown), "ffn_down");
  EXPECT_EQ(role_name(Role::kOther), "other");
}

}  // namespace
}  // namespace tsubu
