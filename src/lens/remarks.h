// What the lens says of a study: one list, which page/words.cc translates.
#pragma once

#include "base/remark.h"

namespace tsubu {

inline constexpr RemarkKind kLensRemarks[] = {
    {"lens.size.weights.as_paper",
     "weights: at r = {0}, noise that grows with the value costs {1} nats, noise blind to it {2}, noise that falls with it {3}: large values tolerate more, as the paper found"},
    {"lens.size.weights.reversed",
     "weights: at r = {0}, noise that grows with the value costs {1} nats, noise blind to it {2}, noise that falls with it {3}: the other way round than the paper found"},
    {"lens.size.weights.unclear",
     "weights: at r = {0}, noise that grows with the value costs {1} nats, noise blind to it {2}, noise that falls with it {3}: no clear order of the three within the spread of the seeds"},
    {"lens.size.weights.one_seed",
     "weights: at r = {0}, noise that grows with the value costs {1} nats, noise blind to it {2}, noise that falls with it {3}: one seed, so the order is not sure yet"},
    {"lens.size.activations.as_paper",
     "activations: at r = {0}, noise that grows with the value costs {1} nats, noise blind to it {2}, noise that falls with it {3}: large values tolerate more, as the paper found"},
    {"lens.size.activations.reversed",
     "activations: at r = {0}, noise that grows with the value costs {1} nats, noise blind to it {2}, noise that falls with it {3}: the other way round than the paper found"},
    {"lens.size.activations.unclear",
     "activations: at r = {0}, noise that grows with the value costs {1} nats, noise blind to it {2}, noise that falls with it {3}: no clear order of the three within the spread of the seeds"},
    {"lens.size.activations.one_seed",
     "activations: at r = {0}, noise that grows with the value costs {1} nats, noise blind to it {2}, noise that falls with it {3}: one seed, so the order is not sure yet"},
    {"lens.distribution.little",
     "the distribution of the noise matters little: Gaussian, uniform and ± noise in the weights are within {0} % of each other (worst at r = {1})"},
    {"lens.distribution.more",
     "the distribution of the noise matters more than the paper found: Gaussian, uniform and ± noise in the weights are within {0} % of each other (worst at r = {1})"},
    {"lens.gamma",
     "noise of one norm is most benign in the weights where it goes with |x|^{0} ({1} nats)"},
    {"lens.gamma.flat",
     "noise of one norm is most benign in the weights where it goes with |x|^{0} ({1} nats; {2} at |x|^0)"},
    {"lens.gamma.codec",
     "of the codecs, {0}'s errors come nearest to the most benign noise, with |x|^{1}"},
    {"lens.sensitive",
     "of the harm that equal relative noise does in every tensor, {0} of {1} tensors carry {2} %: {3}"},
    {"lens.roles",
     "by role: {0}"},
    {"lens.clip.activations.more",
     "clipping the largest 0.1 % of each token's activations costs {0} nats, {1} times more than Q4_K weights ({2})"},
    {"lens.clip.activations.less",
     "clipping the largest 0.1 % of each token's activations costs {0} nats, {1} times less than Q4_K weights ({2})"},
    {"lens.clip.weights",
     "clipping the largest 0.1 % of the weights of each tensor costs {0} nats (r = {1}), Q4_K {2} (r = {3})"},
    {"lens.half.activations",
     "the same relative Gaussian noise (r = {0}) costs {1} nats in activations and {2} in weights: activations are the harder half"},
    {"lens.half.weights",
     "the same relative Gaussian noise (r = {0}) costs {1} nats in activations and {2} in weights: weights are the harder half"},
    {"lens.integers",
     "integers, one scale for each output channel and token, linears of the blocks: {0} costs {1} nats (Δ ln PPL {2}, same top token {3} %)"},
    {"lens.codecs",
     "for its error, the codec that harms least is {0} (r = {1}, as bad as Gaussian noise of {2}): {3} of what such an error does as noise; most: {4} (r = {5}, as bad as Gaussian noise of {6}), {7}"},
    {"lens.gradients.alpha",
     "sensitivities of {0} tensors by gradients took {1}, by noise probes {2}, on the same tokens: {3} of the probes' on the whole (geometric mean), scattering by {4} %; rank correlation {5}"},
    {"lens.gradients.rank",
     "what {0} single tensors and types cost, rank correlation with the measured divergence: {1} by the probes' sensitivity times the error weighted by the inputs, {2} by that of the gradients times the same error, {3} by the Fisher diagonal of each weight, {4} by Σ|g·Δw|"},
    {"lens.outlier",
     "the largest outlier channel is {0} of the input of {1}: up to {2} times the input's root mean square, {3} % of its energy"},
    {"lens.left_out",
     "not measured for want of time (cells left out / all): {0}"},
};

consteval const RemarkKind& operator""_lens(const char* id, size_t n) { return kind_in(kLensRemarks, {id, n}); }

}  // namespace tsubu
