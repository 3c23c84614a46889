// tsubu bench: prefill and decode speed beside the machine's measured limits, or the signature of all outputs.
#include <memory>

#include "base/size.h"
#include "cli/command.h"
#include "cli/numerics_options.h"
#include "cli/output.h"
#include "cli/products_option.h"
#include "cli/signature.h"
#include "cli/table.h"
#include "evaluate/evaluate.h"
#include "hub/model.h"
#include "kernel/kernels.h"

namespace tsubu {
namespace {

struct Options {
  std::string model, products = "f32";
  bool signature = false, act_int8 = false, act_f32 = false;
  SpeedOptions speed;
  NumericsChoice numerics;
};

void print_speed(const SpeedResult& r, const SpeedOptions& options, int n_threads) {
  const auto share = [](double value, double limit) {
    return limit > 0 ? fmt::format("{:.0f} % of {}", 100 * value / limit, format_rate(limit)) : std::string("-");
  };
  Table table({"", ">median", "range", "of the machine's limit"});
  table.add({fmt::format("prefill {}", options.n_prefill), format_rate(r.prefill_tps),
             fmt::format("{:.4g} … {:.4g}", r.prefill_min, r.prefill_max), share(r.prefill_tps, r.prefill_limit_tps)});
  table.add({fmt::format("decode {}", options.n_decode), format_rate(r.decode_tps),
             fmt::format("{:.4g} … {:.4g}", r.decode_min, r.decode_max), share(r.decode_tps, r.decode_limit_tps)});
  print_out(table.text());
  print_out(fmt::format("limits: memory {:.1f} GB/s, f32 {:.1f} GFLOP/s; weights {}, peak memory {}, loaded in {}\n",
                        r.bandwidth_gb_s, r.gflops_f32, format_size(r.weight_bytes), format_size(r.peak_rss_bytes),
                        format_duration(r.load_seconds)));
  print_out(fmt::format("median of {}, {} threads, kernels {}, {}\n", options.repeats, n_threads, kernels().isa,
                        options.numerics.any() ? options.numerics.description()
                        : options.act_int8     ? "activations int8"
                        : options.bf16_products ? "activations f32, bf16 products"
                                               : "activations f32"));
}

ExitCode run(const Options& o, const CommonOptions& common) {
  const auto model = Model::open(model_path(o.model));
  ThreadPool pool(common.threads);
  if (o.signature) {
    const Signature signature = make_signature(*model, pool);
    if (common.json)
      print_json(to_json(signature));
    else
      print_out(signature.hash + "\n");
    return ExitCode::kDone;
  }
  SpeedOptions options = o.speed;
  options.numerics = make_numerics(o.numerics, *model, 512, pool);
  options.act_int8 = o.act_int8 || !(o.act_f32 || options.numerics.any());  // schemes state their own activations
  if (!products_named(o.products)) fail(ExitCode::kUsage, "bench: --products auto: expected f32 or bf16");
  if (products_named(o.products) == Products::kBf16) {  // what eval and calibration of large models run on
    options.act_int8 = o.act_int8;
    options.bf16_products = takes_bf16(o.products, *model, options.act_int8 || options.numerics.any());
  }
  const SpeedResult result = measure_speed(*model, options, pool);
  if (!common.json) {
    print_speed(result, options, pool.size());
    return ExitCode::kDone;
  }
  Json json = to_json(result);
  json["model"] = o.model;
  json["threads"] = pool.size();
  json["kernels"] = kernels().isa;
  json["activations"] = options.act_int8 ? "int8" : "f32";
  json["products"] = options.bf16_products ? "bf16" : "f32";
  if (options.numerics.any()) json["numerics"] = to_json(options.numerics);
  print_json(json);
  return ExitCode::kDone;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  app.add_option("MODEL", o->model, "GGUF file, Hugging Face directory or org/name of the hub")->required()->type_name(" ");
  app.add_option("-p,--prefill", o->speed.n_prefill, "Tokens of prefill (default 512)")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
  app.add_option("-n,--decode", o->speed.n_decode, "Tokens of decode (default 128)")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
  app.add_option("--repeats", o->speed.repeats, "Measurements, of which the median counts (default 3)")
      ->check(CLI::Range(1, 1000))
      ->type_name("N");
  auto* int8 = app.add_flag("--act-int8", o->act_int8, "8-bit activations as on llama.cpp's CPU path (default)");
  app.add_flag("--act-f32", o->act_f32, "Activations in f32, as eval measures")->excludes(int8);
  app.add_option("--products", o->products, "bf16: prefill with products of bfloat16, as eval does for large models (default f32)")
      ->type_name("NAME");
  declare_numerics(app, o->numerics);
  app.add_flag("--signature", o->signature, "One hash over all codecs' bytes and 32 greedy tokens, instead of speed");
  return [o](const CommonOptions& common) { return run(*o, common); };
}

}  // namespace

extern const Command kBenchCommand;
const Command kBenchCommand = {"bench", "MODEL", "Speed of prefill and decode, against the machine's limits",
                               "tsubu bench model.gguf --repeats 5\ntsubu bench --signature model.gguf", declare};

}  // namespace tsubu
