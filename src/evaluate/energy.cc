#include "evaluate/energy.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "evaluate/remarks.h"

namespace tsubu {
namespace {

std::optional<uint64_t> read_number(const std::string& path) {
  std::ifstream file(path);
  uint64_t value = 0;
  return file >> value ? std::optional(value) : std::nullopt;
}

}  // namespace

std::string powercap_folder() {
  const char* folder = std::getenv("TSUBU_POWERCAP");
  return folder && *folder ? folder : "/sys/class/powercap";
}

EnergyMeter::EnergyMeter(const std::string& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    // intel-rapl:0 is a package; intel-rapl:0:1 a part of it, of which the memory is not in the package's count.
    if (name.starts_with("intel-rapl:")) names.push_back(it->path().string());
  }
  std::sort(names.begin(), names.end());
  for (const std::string& path : names) {
    const auto folder_name = std::filesystem::path(path).filename().string();
    std::string label;
    std::ifstream(path + "/name") >> label;
    const bool part = std::count(folder_name.begin(), folder_name.end(), ':') > 1;
    if (label == "psys" || (part && label != "dram")) continue;  // psys: the whole platform, packages included
    const auto range = read_number(path + "/max_energy_range_uj"), now = read_number(path + "/energy_uj");
    if (range && now) {
      zones_.push_back({path + "/energy_uj", *range, *now});
    } else {
      why_not_ = remark("energy.forbidden"_said, {path + "/energy_uj"});
    }
  }
  if (!why_not_.empty()) zones_.clear();  // a part of the machine would pass for the whole
  if (why_not_.empty() && zones_.empty()) why_not_ = remark("energy.none"_said, {folder});
}

void EnergyMeter::start() {
  for (Zone& zone : zones_) zone.begin = read_number(zone.path).value_or(zone.begin);
}

double EnergyMeter::joules() const {
  double sum = 0;
  for (const Zone& zone : zones_) {
    const uint64_t now = read_number(zone.path).value_or(zone.begin);
    sum += 1e-6 * static_cast<double>(now >= zone.begin ? now - zone.begin : zone.range - zone.begin + now);
  }
  return sum;
}

}  // namespace tsubu
