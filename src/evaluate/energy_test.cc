#include "evaluate/energy.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace tsubu {
namespace {

class Energy : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/tsubu-energy-XXXXXX";
    folder_ = mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void zone(const std::string& name, const std::string& label, uint64_t energy, uint64_t range) {
    std::filesystem::create_directories(folder_ + "/" + name);
    std::ofstream(folder_ + "/" + name + "/name") << label << "\n";
    std::ofstream(folder_ + "/" + name + "/energy_uj") << energy << "\n";
    std::ofstream(folder_ + "/" + name + "/max_energy_range_uj") << range << "\n";
  }
  std::string folder_;
};

TEST_F(Energy, PackagesAndMemoryAreAddedPartsOfThePackageAreNot) {
  zone("intel-rapl:0", "package-0", 1000000, 1 << 30);
  zone("intel-rapl:0:0", "core", 500000, 1 << 30);
  zone("intel-rapl:0:1", "dram", 200000, 1 << 30);
  EnergyMeter meter(folder_);
  ASSERT_TRUE(meter.available());
  meter.start();
  zone("intel-rapl:0", "package-0", 3000000, 1 << 30);
  zone("intel-rapl:0:0", "core", 900000, 1 << 30);
  zone("intel-rapl:0:1", "dram", 700000, 1 << 30);
  EXPECT_NEAR(meter.joules(), 2.5, 1e-12);
}

TEST_F(Energy, CountersWrapAround) {
  zone("intel-rapl:0", "package-0", 900, 1000);
  EnergyMeter meter(folder_);
  meter.start();
  zone("intel-rapl:0", "package-0", 150, 1000);
  EXPECT_NEAR(meter.joules(), 250e-6, 1e-12);
}

TEST_F(Energy, SaysWhyThereIsNone) {
  const EnergyMeter meter(folder_);
  EXPECT_FALSE(meter.available());
  EXPECT_NE(meter.why_not().find("no energy counters"), std::string::npos);
  EXPECT_FALSE(EnergyMeter("/nonexistent").available());
}

}  // namespace
}  // namespace tsubu
