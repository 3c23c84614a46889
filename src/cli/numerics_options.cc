#include "cli/numerics_options.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "cli/checks.h"
#include "evaluate/input_magnitudes.h"

namespace tsubu {
namespace {

// Each text alone, cut to whole chunks.
std::vector<TokenId> calibration_tokens(const NumericsChoice& choice, const Model& model, size_t context) {
  const auto tokenizer = model.make_tokenizer();
  std::vector<TokenId> all;
  for (const std::string& path : choice.calibration_texts) {
    const std::vector<TokenId> tokens = tokenizer->encode(read_text_file(path));
    const size_t n_chunks = std::min<size_t>(tokens.size() / context, choice.calibration_chunks);
    if (n_chunks == 0)
      fail(ExitCode::kUsage, "{}: {} tokens are fewer than one chunk of {}: give a longer calibration text", path,
           tokens.size(), context);
    all.insert(all.end(), tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(n_chunks * context));
  }
  return all;
}

}  // namespace

void declare_numerics(CLI::App& app, NumericsChoice& c) {
  app.add_option("--scheme", c.preset, "Compute in a pair of schemes by its name: W8A8, FP8-dynamic, … (tsubu schemes)")
      ->type_name("NAME");
  app.add_option("--weights", c.weights, "Round the weights of the blocks' linears: int8:channel, int4:group=128, …")
      ->type_name("SCHEME");
  app.add_option("--acts", c.activations, "Round the inputs of these linears: int8:token, fp8_e4m3:token, …")
      ->type_name("SCHEME");
  app.add_option("--outliers", c.outliers, "Input columns with |x| above X stay in float (LLM.int8: 6.0)")
      ->check(number_between(0, 1e30))
      ->type_name("X");
  app.add_flag("--with-head", c.with_head, "The linear of the logits too");
  app.add_flag("--float-products", c.float_products, "Multiply integer codes as floats, not by integer kernels");
  app.add_option("--kv", c.cache,
                 "Keep keys and values as TYPE, or as KEYS/VALUES: q8_0, q8_0/q4_0, fp8_e4m3:token, f16")
      ->type_name("TYPE");
  app.add_option("--calib-text", c.calibration_texts, "UTF-8 text for static activation scales; repeatable")
      ->type_name("F")
      ->allow_extra_args(false);
  app.add_option("--calib-percentile", c.percentile,
                 "Static scales cover P percent of the magnitudes (default 100: all)")
      ->check(number_between(50, 100))
      ->type_name("P");
  app.add_option("--calib-chunks", c.calibration_chunks, "At most so many chunks of each calibration text (default 64)")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
}

Numerics make_numerics(const NumericsChoice& c, const Model& model, uint32_t context, ThreadPool& pool) {
  Numerics n;
  n.outliers = c.outliers;
  std::string weights = c.weights, activations = c.activations;
  if (!c.preset.empty()) {
    const SchemePreset& preset = scheme_preset(c.preset);
    if (weights.empty()) weights = preset.weights;
    if (activations.empty()) activations = preset.activations;
    if (n.outliers == 0) n.outliers = preset.outliers;
  }
  if (!weights.empty()) n.weights = parse_scheme(weights, SchemeUse::kWeights);
  if (!activations.empty()) n.activations = parse_scheme(activations, SchemeUse::kActivations);
  if (!c.cache.empty()) n.cache = parse_kv_formats(c.cache);
  n.with_head = c.with_head;
  n.integer_kernels = !c.float_products;
  if (n.outliers > 0 && !n.activations)
    fail(ExitCode::kUsage, "--outliers keeps input columns in float, and no scheme rounds them: add --acts");
  if (c.with_head && !n.linears()) fail(ExitCode::kUsage, "--with-head: nothing to do: add --weights or --acts");
  const bool is_static = n.activations && n.activations->granularity == Granularity::kTensor;
  if (is_static && c.calibration_texts.empty())
    fail(ExitCode::kUsage, "activations in {} have static scales: add --calib-text F, or choose {}:token",
         n.activations->name(), n.activations->format->name);
  if (!is_static && !c.calibration_texts.empty())
    fail(ExitCode::kUsage, "--calib-text: nothing has static scales: only activations in FORMAT:tensor do");
  if (is_static) {
    const size_t chunk = model.hparams().n_ctx > 0 ? std::min(context, model.hparams().n_ctx) : context;
    n.static_magnitudes = input_magnitudes(model, calibration_tokens(c, model, chunk), chunk, c.percentile, pool);
  }
  return n;
}

Json to_json(const Numerics& n) {
  Json json;
  json["weights"] = n.weights ? Json(n.weights->name()) : Json();
  json["activations"] = n.activations ? Json(n.activations->name()) : Json();
  json["keys"] = n.cache.keys.name();
  json["values"] = n.cache.values.name();
  if (n.outliers > 0) json["outliers"] = n.outliers;
  if (n.linears()) {
    json["with_head"] = n.with_head;
    json["integer_products"] = n.integer_products();
  }
  return json;
}

}  // namespace tsubu
