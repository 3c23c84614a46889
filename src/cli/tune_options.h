// Options that every kind of training has: what `tsubu tune` reads before it knows which.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "calibrate/corpus.h"

namespace tsubu {

struct TuneOptions {
  std::string model, output;
  std::vector<std::string> texts;
  CorpusOptions corpus;
  uint64_t n_tokens = 0, tokens_per_step = 0, seed = 1, judged_tokens = 1 << 13;  // n_tokens 0: the text once
  double rate = 0;  // 0: the method's own
  double warm_up = 0.05, floor = 0, weight_decay = 0, held_out = 0.05;
  uint32_t n_evaluations = 10;
  bool f32_states = false, no_checkpoint = false, dry_run = false, no_manifest = false;
  Json given = Json::object();  // the options that a manifest keeps
};

}  // namespace tsubu
