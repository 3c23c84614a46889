// Sensitivities of all tensors at once from backward passes, in the unit of the noise probes of sensitivity.h. At every
// scored position t of a window a label y_t is drawn from the model's own distribution there; G is the gradient of the sum
// of -ln p(y_t) with respect to a weight matrix W. The terms have mean 0 given the text and are independent, so
//   E[G_ij²] = Σ_t F_t,ij,
// the diagonal of the Fisher matrix, which is the second derivative of KL(unchanged ‖ changed): with F its mean over scored
// tokens, a small change Δ of W whose elements are independent costs ½ Σ F_ij E[Δ_ij²] nats a token. Of noise of relative
// norm r
//   in one size for the tensor    α = ½ ‖W‖² / (n_rows n_cols) Σ_ij F_ij
//   in the size of each row       α = ½ Σ_i ‖W_i‖² / n_cols Σ_j F_ij
// and the divergence is α r². What errors of different weights do together (the rest of the matrix) is not in it.
// Sources: the Fisher matrix as curvature of the divergence, Amari 1998, Kunstner et al. 1905.12558 (labels from the model,
// not from the text); its diagonal for quantization, Dong et al. 1911.03852 (HAWQ-V2's trace), Kim et al. 2306.07629 (SqueezeLLM).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/aligned.h"
#include "base/threads.h"
#include "model/model.h"

namespace tsubu {

struct GradientOptions {
  uint64_t seed = 1;            // of the labels
  bool keeps_fisher = false;    // F of every weight: 4 bytes for each
  // The gradient of the text's own loss with respect to every weight: a second backward pass for each window, 4 bytes for each.
  bool keeps_gradient = false;
};

struct GradientSensitivity {
  const ModelTensor* tensor = nullptr;
  double alpha = 0;                // of noise of one size in the tensor
  double alpha_rows = 0;           // of noise in the size of each row
  double spread = 0;               // standard deviation of ln alpha_rows over windows
  AlignedVector<float> fisher;     // F: (n_rows, n_cols), mean over scored tokens; empty unless asked for
  AlignedVector<float> gradient;   // ∂/∂W of the text's cross entropy a scored token; empty unless asked for
};

// The matrices that sensitivities are about, in the order of sensitivities(): quantizable ones that operations use.
std::vector<const ModelTensor*> sensitive_tensors(const Model& model);

// One for each of sensitive_tensors(). windows: as for HarmMeter (the last token is a label only, the second half of the rest is
// scored); at least one, of one length of at least 4 tokens, else Error(kUsage). seconds: what the pass with drawn labels took,
// without that of the text's own; may be nullptr. Same values for any number of threads.
std::vector<GradientSensitivity> gradient_sensitivities(const Model& model, std::span<const std::vector<TokenId>> windows,
                                                        const GradientOptions& options, ThreadPool& pool,
                                                        double* seconds = nullptr, double* text_seconds = nullptr);

}  // namespace tsubu
