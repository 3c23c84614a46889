// tsubu certify: whether candidates may stand in for a base, by limits; exit code 1 when one may not.
#include "evaluate/certify.h"

#include <cmath>
#include <memory>
#include <optional>

#include "base/file.h"
#include "base/progress.h"
#include "base/size.h"
#include "cli/checks.h"
#include "cli/child.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/products_option.h"
#include "cli/table.h"
#include "hub/model.h"

namespace tsubu {
namespace {

constexpr size_t kWorstShown = 5;

struct Options {
  CertifyOptions certify;
  std::string protocol = "llama.cpp", products = "auto", spec, output;
  std::optional<uint32_t> context;
  std::map<std::string, std::string> limits;  // as given, by the gate's name
  std::vector<std::string> templates;         // of the questions, as given
  bool no_weights = false, no_speed = false;
};

// "\\n" as people write it on a command line.
std::string with_new_lines(std::string text) {
  for (size_t at; (at = text.find("\\n")) != std::string::npos;) text.replace(at, 2, "\n");
  return text;
}

std::string percent(double share) { return fmt::format("{:.2f} %", 100 * share); }

std::string interval(double value, const Interval& i, int digits = 5) {
  return fmt::format("{:.{}f} [{:.{}f}, {:.{}f}]", value, digits, i.low, digits, i.high, digits);
}

void print_divergences(const CertifyResult& r) {
  Table table({"candidate", ">bits", ">KLD mean [95 %]", ">median", ">99 %", ">max", ">same top token", ">PPL ratio"});
  for (const CandidateResult& c : r.candidates) {
    if (c.by_text.empty()) continue;
    const auto row = [&](const std::string& name, const std::string& bits, const DivergenceResult& d) {
      table.add({name, bits, interval(d.mean, d.mean_ci95), fmt::format("{:.5f}", d.median),
                 fmt::format("{:.4f}", d.p99), fmt::format("{:.3f}", d.max), percent(d.top1_agreement),
                 fmt::format("{:.4f}", std::exp(d.ln_ppl_ratio))});
    };
    row(c.path, fmt::format("{:.3f}", c.bits_per_weight), c.divergence);
    if (c.by_text.size() > 1)
      for (const TextDivergence& t : c.by_text) row("  " + t.path, "", t.divergence);
  }
  if (table.empty()) return;
  print_out("Divergence from " + r.options.base + ", in nats\n" + table.text(2));
  print_out(fmt::format(
      "  noise floor: {:.2g} (the base again, cut otherwise); {:.2g} with activations and cache rounded as\n"
      "  llama.cpp's CPU path does for its types\n",
      r.floor_repeat, r.floor_runtime));
  for (const CandidateResult& c : r.candidates) {
    if (c.calibration_kld)
      print_out(fmt::format("  {}: {:.5f} on calibration text, {:+.5f} here; {} of the text stands in it\n", c.path,
                            *c.calibration_kld, c.divergence.mean - *c.calibration_kld, percent(c.overlap)));
    else if (c.overlap > 0)
      print_out(
          fmt::format("  {}: {} of {} stands in its calibration text\n", c.path, percent(c.overlap), c.overlap_with));
  }
}

void print_tasks(const CertifyResult& r) {
  if (r.tasks.empty()) return;
  Table table(
      {"task", "candidate", ">base", ">right", ">difference [95 %], points", ">lost", ">gained", ">p", ">Holm"});
  for (const CandidateResult& c : r.candidates) {
    for (const TaskResult& t : c.tasks) {
      const Task& task = r.tasks[t.task];
      const PairedCounts& n = counted(task, t.comparison);
      const Interval points = {100 * t.difference_ci95.low, 100 * t.difference_ci95.high};
      table.add({fmt::format("{} ({})", task.name, n.n()), c.path, percent(n.base_share()),
                 percent(n.candidate_share()), interval(100 * n.difference(), points, 2), fmt::format("{}", n.lost),
                 fmt::format("{}", n.gained), fmt::format("{:.3g}", t.p), fmt::format("{:.3g}", t.holm_p)});
      for (const auto& [group, g] : t.comparison.groups)
        table.add({"  " + printable(group) + fmt::format(" ({})", g.n()), "", percent(g.base_share()),
                   percent(g.candidate_share()), fmt::format("{:+.2f}", 100 * g.difference()),
                   fmt::format("{}", g.lost), fmt::format("{}", g.gained)});
    }
  }
  print_out("\nQuestions\n" + table.text(2));
}

void print_generation(const CertifyResult& r) {
  if (r.prompts.empty()) return;
  Table table(
      {"candidate", ">same text", ">first difference", ">length ratio", ">repetition (base)", ">no end (base)"});
  for (const CandidateResult& c : r.candidates) {
    if (!c.generation) continue;
    const GenerationComparison& g = *c.generation;
    table.add({c.path, percent(g.same_share), fmt::format("{:g} tokens", g.median_first_difference),
               fmt::format("{:.3f}", g.length_ratio),
               fmt::format("{} ({})", percent(g.repetition), percent(g.base_repetition)),
               fmt::format("{} ({})", g.unended, g.base_unended)});
  }
  print_out(fmt::format("\nGreedy text of {} prompts\n", r.prompts.size()) + table.text(2));
}

void print_speed(const CertifyResult& r) {
  if (r.base_speed.is_null()) return;
  Table table({"model", ">size", ">peak memory", ">load", ">prefill", ">decode", ">× base"});
  const double base = r.base_speed["decode"]["tokens_per_second"].get<double>();
  const auto row = [&](const std::string& path, uint64_t size, const Json& s) {
    const double decode = s["decode"]["tokens_per_second"].get<double>();
    table.add({path, format_size(size), format_size(s["peak_rss_bytes"].get<uint64_t>()),
               format_duration(s["load_seconds"].get<double>()),
               format_rate(s["prefill"]["tokens_per_second"].get<double>()), format_rate(decode),
               fmt::format("{:.2f}", decode / base)});
  };
  row(r.options.base, r.base_size_bytes, r.base_speed);
  for (const CandidateResult& c : r.candidates)
    if (!c.speed.is_null()) row(c.path, c.size_bytes, c.speed);
  print_out("\nSpeed and memory (tsubu bench, each in a process of its own)\n" + table.text(2));
}

void print_worst(const CertifyResult& r) {
  for (const CandidateResult& c : r.candidates) {
    if (c.weights) {
      for (const Remark& setting : c.weights->configuration)
        print_out(fmt::format("\n{}: setting differs: {}\n", c.path, setting.text));
      Table table({"tensor", "type", ">error", ">plain rounding", "finding"});
      for (const TensorDifference& d : c.weights->tensors)
        if (!d.finding.empty())
          table.add({d.name, d.type, fmt::format("{:.4f}", d.rel_error),
                     d.expected > 0 ? fmt::format("{:.4f}", d.expected) : "-", d.finding.text});
      if (!table.empty() && c.weights->comparable) print_out(fmt::format("\n{}: weights\n", c.path) + table.text(2));
      if (!c.weights->comparable) print_out(fmt::format("\n{}: weights not judged: {}\n", c.path, c.weights->reason.text));
    }
    if (c.worst_tokens.empty()) continue;
    Table table({">KLD", "after", "text has", "base", "candidate"});
    for (size_t i = 0; i < std::min(kWorstShown, c.worst_tokens.size()); ++i) {
      const WorstToken& w = c.worst_tokens[i];
      table.add({fmt::format("{:.3f}", w.kld), "…" + printable(w.before), printable(w.actual),
                 fmt::format("{} {:.0f} %", printable(w.base_top), 100 * w.base_top_p),
                 fmt::format("{} {:.0f} %", printable(w.top), 100 * w.top_p)});
    }
    print_out(fmt::format("\n{}: where it moved most\n", c.path) + table.text(2));
  }
}

void print_verdict(const CertifyResult& r) {
  Table table({"gate", "candidate", ">value", ">95 % bound", ">limit", "", ""});
  for (const GateResult& g : r.gates)
    table.add({g.name, g.candidate, fmt::format("{:.6g}", g.value), fmt::format("{:.6g}", g.bound),
               fmt::format("{:.6g}", g.limit), g.ok ? "pass" : "FAIL", joined(g.reasons, "; ")});
  print_out("\n" + table.text());
  print_out(r.same_under_seeds
                ? fmt::format("same verdict under {} seeds of the bootstrap\n", r.n_seeds)
                : "another seed of the bootstrap changes the verdict: too close to call, give more text\n");
  for (const TemplateResult& t : r.by_template) {
    std::string changed;
    for (size_t c = 0; c < r.candidates.size(); ++c)
      if (t.pass[c] != r.pass(r.candidates[c].path))
        changed += fmt::format("{}{} {}", changed.empty() ? "" : ", ", r.candidates[c].path, t.pass[c] ? "passes" : "fails");
    print_out(fmt::format("questions as \"{}\": {}\n", printable(t.text), changed.empty() ? "same verdict" : "another verdict: " + changed));
  }
  const ThreadCheck& t = r.by_threads;
  std::string share;
  const auto add = [&](uint32_t n, const char* what) {
    if (n > 0) share += fmt::format("{}{} {}{}", share.empty() ? "" : ", ", n, what, n == 1 ? "" : "s");
  };
  add(t.n_chunks, "chunk");
  add(t.n_questions, "question");
  add(t.n_prompts, "prompt");
  share += fmt::format(" again with {} instead of {}", t.n_threads_again == 1 ? "1 thread" : fmt::format("{} threads", t.n_threads_again), t.n_threads);
  print_out(t.n_differ == 0 ? fmt::format("same verdict for every number of threads: {}, all {} numbers the same to the bit\n", share, t.n_compared)
                            : fmt::format("numbers that depend on the number of threads, a fault of this program: {}, {} of {} differ; {}\n", share,
                                          t.n_differ, t.n_compared, t.same_verdict ? "the verdict is the same" : "another verdict"));
  print_out("protocol: " + joined(protocol_of(r), "; ") + "\n");
  for (const CandidateResult& c : r.candidates) {
    std::string failed;
    for (const GateResult& g : r.gates)
      if (g.candidate == c.path && !g.ok) failed += (failed.empty() ? "" : ", ") + g.name;
    print_out(fmt::format("{}: {}\n", c.path, failed.empty() ? "PASS" : "FAIL (" + failed + ")"));
  }
}

std::map<std::string, double> limits_of(const Options& o) {
  std::map<std::string, double> limits;
  if (!o.spec.empty()) limits = read_gate_spec(o.spec);
  for (const GateKind& kind : gate_kinds()) {
    const auto given = o.limits.find(std::string(kind.name));
    if (given == o.limits.end() || given->second.empty()) continue;
    if (kind.type_name == "SIZE") {
      limits[given->first] = static_cast<double>(parse_size_bytes(given->second));
      continue;
    }
    size_t end = 0;
    double value = NAN;
    try {
      value = std::stod(given->second, &end);
    } catch (const std::exception&) {
    }
    if (!std::isfinite(value) || value < 0 || end != given->second.size())
      fail(ExitCode::kUsage, "certify: {}: '{}' is no limit: give a number ≥ 0", kind.option, given->second);
    if (kind.type_name == "SHARE" && value > 1)
      fail(ExitCode::kUsage, "certify: {}: {} is no share: give a number from 0 to 1", kind.option, given->second);
    limits[given->first] = value;
  }
  return limits;
}

ExitCode run(const Options& o, const CommonOptions& common) {
  check_can_create(o.output);
  CertifyOptions options = o.certify;
  options.eval.protocol = o.protocol == "paper" ? EvalProtocol::kPaper : EvalProtocol::kLlamaCpp;
  options.eval.context = o.context.value_or(options.eval.protocol == EvalProtocol::kPaper ? 2048 : 512);
  options.limits = limits_of(o);
  for (const std::string& text : o.templates) options.templates.push_back(with_new_lines(text));
  options.weights = !o.no_weights;
  options.base = model_path(options.base);
  for (std::string& candidate : options.candidates) candidate = model_path(candidate);
  options.eval.bf16_products = takes_bf16(o.products, *Model::open(options.base), options.eval.act_int8);
  if (!o.no_speed)
    options.measure_speed = [&](const std::string& model) {
      std::vector<std::string> words = {"bench", model, "--json", "--quiet", "-p", "128", "-n", "32", "--repeats", "5"};
      if (common.threads > 0) words.insert(words.end(), {"--threads", std::to_string(common.threads)});
      return run_child(words);
    };
  CertifyResult result;
  {
    ThreadPool pool(common.threads);
    result = certify(options, pool);
  }
  const Json json = to_json(result);
  if (!o.output.empty()) write_text_file(o.output, dump_json(json));
  if (common.json) {
    print_json(json);
  } else {
    print_divergences(result);
    print_tasks(result);
    print_generation(result);
    print_speed(result);
    print_worst(result);
    print_verdict(result);
  }
  return result.pass() ? ExitCode::kDone : ExitCode::kGateFailed;
}

Action declare(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CertifyOptions& c = o->certify;
  app.add_option("BASE", c.base, "The model to be faithful to: GGUF file, Hugging Face directory or org/name of the hub")
      ->required()
      ->type_name(" ");
  app.add_option("CANDIDATE", c.candidates, "Models that may stand in for it")->required()->type_name(" ");
  const auto files = [&](const char* name, std::vector<std::string>& list, const char* help) {
    app.add_option(name, list, help)->type_name("F")->allow_extra_args(false);
  };
  files("--text", c.texts, "UTF-8 text, not used before; repeatable, each is also reported by itself");
  files("--tasks", c.tasks, "Questions with answers (docs/certify.md lists the forms); repeatable");
  files("--prompts", c.prompts, "Prompts to continue greedily: one a line, or JSON lines; repeatable");
  files("--calib-text", c.calibration_texts,
        "Text the candidates were calibrated with: looked for in --text, and compared");
  for (const GateKind& kind : gate_kinds())
    if (!kind.option.empty())
      app.add_option(std::string(kind.option), o->limits[std::string(kind.name)], "Gate: " + std::string(kind.summary))
          ->type_name(std::string(kind.type_name));
  app.add_option("--spec", o->spec, "Limits by name in a JSON file; options on the command line win")->type_name("F");
  app.add_option("--ctx", o->context, "Tokens of a chunk (default: the protocol's)")
      ->check(CLI::Range(8, 1 << 20))
      ->type_name("N");
  app.add_option("--chunks", c.eval.max_chunks, "At most so many chunks of each text (default: all)")->type_name("N");
  app.add_option("--protocol", o->protocol,
                 "llama.cpp: chunks of 512, second half scored (default); paper: windows of 2048, all scored")
      ->check(CLI::IsMember({"llama.cpp", "paper"}).description(""))
      ->type_name("NAME");
  app.add_option("--task-limit", c.task_limit, "At most so many questions of each task (default: all)")->type_name("N");
  app.add_option("--tokens", c.n_generate, "Tokens to write for each prompt (default 64)")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
  app.add_option("--template", o->templates,
                 "Another wording of the questions, {} for the question, \\n for a new line: is the verdict the same? Repeatable")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  app.add_option("--expect-flips", c.expected_flips,
                 "Share of answers expected to change, for the stated power (default 0.1)")
      ->check(number_between(0, 1))
      ->type_name("SHARE");
  app.add_option("--alpha", c.alpha, "Level of the tests (default 0.05)")
      ->check(number_between(1e-6, 0.5))
      ->type_name("X");
  app.add_flag("--act-int8", c.eval.act_int8, "Round activations of all models to 8 bits as llama.cpp's CPU path does");
  declare_products(app, o->products);
  app.add_flag("--no-weights", o->no_weights, "Do not compare weights and settings");
  app.add_flag("--no-speed", o->no_speed, "Do not measure speed and memory");
  app.add_option("--seed", c.eval.seed, "Of the bootstrap intervals (default 1)")
      ->check(CLI::NonNegativeNumber)
      ->type_name("N");
  app.add_option("-o,--output", o->output, "Write the JSON to a file as well: `tsubu report` makes a page of it")
      ->type_name("F");
  return [o](const CommonOptions& common) {
    Options options = *o;
    options.certify.eval.act_int8_base = options.certify.eval.act_int8;
    return run(options, common);
  };
}

}  // namespace

extern const Command kCertifyCommand;
const Command kCertifyCommand = {
    "certify", "BASE CANDIDATE… --text F", "Is the candidate still the base? Limits and a verdict",
    "tsubu certify base.gguf q4.gguf --text heldout.txt --max-kld 0.05 --min-top1 0.9\n"
    "tsubu certify base.gguf q4.gguf q3.gguf --text own.txt --tasks own.jsonl --spec gates.json -o run.json",
    declare};

}  // namespace tsubu
