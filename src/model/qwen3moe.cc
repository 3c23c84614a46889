// Qwen 3 with a mixture of experts in every layer: Qwen 3's attention, and for each token the experts with the highest
// scores, weighed by a softmax over them; GGUF's "qwen3moe". Source: arXiv:2505.09388.
#include "base/error.h"
#include "model/architecture_list.h"
#include "model/gated_decoder.h"

namespace tsubu {
namespace {

class Qwen3Moe : public GatedDecoder {
 public:
  Qwen3Moe()
      : GatedDecoder({.qk_norm = true,
                      .experts = {.router = "mlp.gate",
                                  .gate = "mlp.experts.{}.gate_proj",
                                  .up = "mlp.experts.{}.up_proj",
                                  .down = "mlp.experts.{}.down_proj"}}) {}
  std::string_view name() const override { return "qwen3moe"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"Qwen3MoeForCausalLM"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"qwen3_moe"};
    return kTypes;
  }
  std::string_view summary() const override { return "Qwen 3, mixture of experts"; }

 protected:
  void add_from_config(const ConfigReader& config, Hparams& h) const override {
    if (h.n_experts == 0) fail(ExitCode::kBadInput, "{}: num_experts is missing", config.where());
    if (config.find_uint({"decoder_sparse_step"}, 1, kMaxLayers).value_or(1) != 1)
      fail(ExitCode::kUnsupported, "{}: decoder_sparse_step other than 1 (layers without experts) is not supported",
           config.where());
    const Json* dense = config.find("mlp_only_layers");
    if (dense && !dense->empty())
      fail(ExitCode::kUnsupported, "{}: mlp_only_layers (layers without experts) is not supported", config.where());
    if (!config.find_bool("norm_topk_prob").value_or(false))
      fail(ExitCode::kUnsupported,
           "{}: \"norm_topk_prob\": false has no counterpart in GGUF's \"qwen3moe\", whose experts' weights sum to 1",
           config.where());
  }
  void add_from_gguf(const GgufReader& metadata, Hparams& h) const override {
    if (h.n_experts == 0)
      fail(ExitCode::kBadInput, "{}: metadata {} is missing", metadata.where(), metadata.key("expert_count"));
  }
};

}  // namespace

const Architecture& qwen3moe_architecture() {
  static const Qwen3Moe architecture;
  return architecture;
}

}  // namespace tsubu
