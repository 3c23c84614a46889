// gpt-oss: the Llama family with a mixture of experts in every layer, biases everywhere, a score for each head that takes
// part in the softmax and has no value (sinks), a sliding window in every other layer, clamped gates; GGUF's "gpt-oss".
// Hugging Face keeps gate and up of all experts in one tensor, their outputs in turn. Source: arXiv:2508.10925.
#include "base/error.h"
#include "model/architecture_list.h"
#include "model/gated_decoder.h"

namespace tsubu {
namespace {

class GptOss : public GatedDecoder {
 public:
  GptOss()
      : GatedDecoder({.always_qkv_bias = true,
                      .attention_bias_key = true,
                      .gate = OpKind::kSwigluOai,
                      .sinks = true,
                      .ffn_norm = "post_attention_norm",
                      .window_period = 2,
                      .experts = {.router = "mlp.router", .gate = "", .up = "", .down = ""}}) {}
  std::string_view name() const override { return "gpt-oss"; }
  std::span<const std::string_view> hf_architectures() const override {
    static constexpr std::string_view kNames[] = {"GptOssForCausalLM"};
    return kNames;
  }
  std::span<const std::string_view> hf_model_types() const override {
    static constexpr std::string_view kTypes[] = {"gpt_oss"};
    return kTypes;
  }
  std::string_view summary() const override { return "gpt-oss"; }

 protected:
  void add_from_config(const ConfigReader& config, Hparams& h) const override {
    if (h.n_experts == 0) fail(ExitCode::kBadInput, "{}: num_local_experts is missing", config.where());
    if (config.find_number("swiglu_limit", 0, 1e9).value_or(7) != 7 ||
        config.find_number("swiglu_alpha", 0, 1e9).value_or(1.702) != 1.702)
      fail(ExitCode::kUnsupported, "{}: swiglu_limit other than 7 and swiglu_alpha other than 1.702 are not supported",
           config.where());
    h.qkv_bias = h.attn_output_bias = h.mlp_bias = true;
  }
  void add_from_gguf(const GgufReader& metadata, Hparams& h) const override {
    if (h.n_experts == 0)
      fail(ExitCode::kBadInput, "{}: metadata {} is missing", metadata.where(), metadata.key("expert_count"));
  }

  void list_experts(const Hparams& h, TensorList& list) const override {
    const uint64_t n = h.n_experts, ff = h.n_ff_expert, embd = h.n_embd;
    const auto linear = [&](const char* ours, const char* theirs, uint64_t rows, uint64_t cols, Role role,
                            uint32_t first, uint32_t step) {
      const auto from_every = [&](const std::string& suffix) {
        TensorSpec& spec = list.last();
        spec.hf_name = spec.hf_name.substr(0, spec.hf_name.rfind('.')) + suffix;
        spec.hf_first = first;
        spec.hf_step = step;
      };
      list.weight(ours, theirs, {n, rows, cols}, role);
      from_every("");
      list.last().transform = HfTransform::kTranspose;
      list.bias(ours, theirs, rows);
      list.last().shape = {n, rows};
      from_every("_bias");
    };
    linear("ffn_gate_exps", "mlp.experts.gate_up_proj", ff, embd, Role::kFfnGate, 0, 2);
    linear("ffn_up_exps", "mlp.experts.gate_up_proj", ff, embd, Role::kFfnUp, 1, 2);
    linear("ffn_down_exps", "mlp.experts.down_proj", embd, ff, Role::kFfnDown, 0, 1);
  }
};

}  // namespace

const Architecture& gpt_oss_architecture() {
  static const GptOss architecture;
  return architecture;
}

}  // namespace tsubu
