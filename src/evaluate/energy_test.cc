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

TEST_F(Energy, SeveralPackagesAreAddedAndThePlatformIsNot) {
  zone("intel-rapl:0", "package-0", 500, 1000);
  zone("intel-rapl:1", "package-1", 990, 1000);
  zone("intel-rapl:2", "psys", 0, 1000);
  zone("intel-rapl-mmio:0", "package-0", 0, 1000);  // the first package once more
  EnergyMeter meter(folder_);
  ASSERT_TRUE(meter.available());
  meter.start();
  zone("intel-rapl:0", "package-0", 600, 1000);
  zone("intel-rapl:1", "package-1", 40, 1000);  // wrapped around
  zone("intel-rapl:2", "psys", 900, 1000);
  zone("intel-rapl-mmio:0", "package-0", 100, 1000);
  EXPECT_NEAR(meter.joules(), 150e-6, 1e-12);
}

// A counter that may not be read: of two packages one would pass for the whole machine.
TEST_F(Energy, WithoutPermissionNothingIsMeasured) {
  zone("intel-rapl:0", "package-0", 1, 1000);
  zone("intel-rapl:1", "package-1", 1, 1000);
  std::filesystem::remove(folder_ + "/intel-rapl:1/energy_uj");
  std::filesystem::create_directory(folder_ + "/intel-rapl:1/energy_uj");  // cannot be read by anyone, root included
  EnergyMeter meter(folder_);
  EXPECT_FALSE(meter.available());
  EXPECT_EQ(meter.why_not().text, folder_ + "/intel-rapl:1/energy_uj cannot be read (root only on most systems)");
  meter.start();
  EXPECT_EQ(meter.joules(), 0);
}

TEST_F(Energy, TheFolderComesFromTheEnvironment) {
  setenv("TSUBU_POWERCAP", folder_.c_str(), 1);
  EXPECT_EQ(powercap_folder(), folder_);
  unsetenv("TSUBU_POWERCAP");
  EXPECT_EQ(powercap_folder(), "/sys/class/powercap");
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
  EXPECT_NE(meter.why_not().text.find("no energy counters"), std::string::npos);
  EXPECT_FALSE(EnergyMeter("/nonexistent").available());
}

}  // namespace
}  // namespace tsubu
