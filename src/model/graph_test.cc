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
using Rows = std::vector<uint32_t>;

TEST(LinearGroups, Llama) {
  const auto groups = groups_of("llama", tiny_llama().config);
  ASSERT_EQ(groups.size(), 2 * 4 + 1u);
  EXPECT_EQ(groups[0].norm_weight, "blk.0.attn_norm.weight");
  EXPECT_EQ(groups[0].linears, (Names{"blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight"}));
  EXPECT_EQ(groups[0].producer_linear, "");
  EXPECT_EQ(groups[1].linears, (Names{"blk.0.attn_output.weight"}));
  EXPECT_EQ(groups[1].norm_weight, "");
  EXPECT_EQ(groups[1].producer_linear, "blk.0.attn_v.weight");  // 2 value heads of 4 feed 4 query heads
  EXPECT_EQ(groups[1].producer_rows, (Rows{0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7}));
  EXPECT_EQ(groups[1].producer_heads, 2u);
  EXPECT_EQ(groups[2].norm_weight, "blk.0.ffn_norm.weight");
  EXPECT_EQ(groups[2].linears, (Names{"blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"}));
  EXPECT_EQ(groups[3].linears, (Names{"blk.0.ffn_down.weight"}));
  EXPECT_EQ(groups[3].producer_linear, "blk.0.ffn_up.weight");
  EXPECT_EQ(groups[3].producer_rows.size(), kTinyFf);
  EXPECT_EQ(groups[3].producer_rows[7], 7u);
  for (const LinearGroup& group : groups) EXPECT_TRUE(group.foldable) << group.linears.front();
  EXPECT_EQ(groups[4].layer, 1);
  EXPECT_EQ(groups[8].norm_weight, "output_norm.weight");
  EXPECT_EQ(groups[8].linears, (Names{"output.weight"}));
  EXPECT_EQ(groups[8].layer, -1);
}

TEST(LinearGroups, ATiedHeadDoesNotFold) {
  Json config = tiny_llama().config;
  config["tie_word_embeddings"] = true;
  const auto groups = groups_of("llama", config);
  EXPECT_FALSE(groups.back().foldable);  // a scale of its columns would scale the embeddings
  EXPECT_TRUE(groups.front().foldable);
}

TEST(LinearGroups, AnInputThatSomethingElseReadsDoesNotFold) {
  GraphBuilder g;
  ValueId x = g.embed("e", 8);
  const ValueId n = g.rms_norm(x, "norm", 1e-5f);
  x = g.add(g.linear(n, "w", 8), n);
  const auto groups = linear_groups(g.finish(g.linear(g.silu_mul(x, g.linear(x, "up", 8)), "head", 4)));
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0].norm_weight, "norm");
  EXPECT_FALSE(groups[0].foldable);
  EXPECT_FALSE(groups[1].foldable);  // neither a norm nor a linear wrote it
  EXPECT_TRUE(groups[2].foldable);
}

TEST(LinearGroups, Gpt2) {
  const auto groups = groups_of("gpt2", tiny_gpt2().config);
  ASSERT_EQ(groups.size(), 2 * 4 + 1u);
  EXPECT_EQ(groups[0].norm_weight, "blk.0.attn_norm.weight");
  EXPECT_EQ(groups[0].linears, (Names{"blk.0.attn_qkv.weight"}));
  EXPECT_EQ(groups[0].norm_bias, "blk.0.attn_norm.bias");
  EXPECT_EQ(groups[1].producer_linear, "blk.0.attn_qkv.weight");  // its last third
  EXPECT_EQ(groups[1].producer_bias, "blk.0.attn_qkv.bias");
  EXPECT_EQ(groups[1].producer_rows.front(), 2 * kTinyEmbd);
  EXPECT_TRUE(groups[1].foldable);
  EXPECT_EQ(groups[3].producer_linear, "");  // GELU is not linear in its input
  EXPECT_FALSE(groups[3].foldable);
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
