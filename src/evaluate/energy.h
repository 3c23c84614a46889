// Energy of the processor packages (and their memory where it is counted) over a stretch of work, from Linux' powercap
// counters: /sys/class/powercap/intel-rapl:N/{energy_uj, max_energy_range_uj}, microjoules that wrap around. AMD's
// processors have the same files. They are readable by root alone on most systems and absent in most containers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/remark.h"

namespace tsubu {

// $TSUBU_POWERCAP, where another folder has the counters; /sys/class/powercap.
std::string powercap_folder();

class EnergyMeter {
 public:
  explicit EnergyMeter(const std::string& folder = powercap_folder());
  bool available() const { return why_not_.empty(); }
  const Remark& why_not() const { return why_not_; }
  void start();
  double joules() const;  // since start(); of the whole machine, not of this process

 private:
  struct Zone {
    std::string path;
    uint64_t range = 0, begin = 0;
  };
  std::vector<Zone> zones_;
  Remark why_not_;
};

}  // namespace tsubu
