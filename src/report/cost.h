// From prices and measured speed to money.
#pragma once

#include <optional>
#include <string>

namespace tsubu {

struct Prices {
  std::string currency = "$";
  std::optional<double> machine_hour, kwh, tokens_per_month;
  double once = 0;  // what making and checking the candidate costs
  bool any() const { return machine_hour || kwh; }
};

struct Cost {
  double per_million = 0;                     // tokens
  std::optional<double> per_month, machines;  // machines busy all month
};

// joules: of a token; 0 or less when not measured (energy is then left out).
Cost cost_of(const Prices& prices, double tokens_per_second, double joules);
// Tokens after which the candidate has paid for itself; nothing when it never does.
std::optional<double> break_even_tokens(const Prices& prices, const Cost& base, const Cost& candidate);

}  // namespace tsubu
