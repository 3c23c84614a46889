#include "base/size.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace tsubu {
namespace {

TEST(Size, ReadsWhatPeopleWrite) {
  EXPECT_EQ(parse_size_bytes("6GiB"), uint64_t{6} << 30);
  EXPECT_EQ(parse_size_bytes("6 gib"), uint64_t{6} << 30);
  EXPECT_EQ(parse_size_bytes("6G"), uint64_t{6} << 30);
  EXPECT_EQ(parse_size_bytes("500MB"), 500'000'000u);
  EXPECT_EQ(parse_size_bytes("1.5 KiB"), 1536u);
  EXPECT_EQ(parse_size_bytes("1234"), 1234u);
  EXPECT_EQ(parse_size_bytes("0"), 0u);
}

TEST(Size, RefusesEverythingElse) {
  for (const char* text : {"", "GiB", "6 GiBs", "-1", "nan", "inf", "1e30", "6,5GB", "1e18T", "0x10"}) {
    try {
      const uint64_t bytes = parse_size_bytes(text);
      ADD_FAILURE() << text << " gave " << bytes;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kUsage);
    }
  }
}

TEST(Size, BitsPerWeight) {
  EXPECT_EQ(parse_bits_per_weight("4.5"), 4.5);
  EXPECT_EQ(parse_bits_per_weight("4.5bpw"), 4.5);
  EXPECT_EQ(parse_bits_per_weight("64"), 64);
  for (const char* text : {"0", "-1", "64.1", "nan", "4 bits", ""}) EXPECT_THROW(parse_bits_per_weight(text), Error);
}

TEST(Size, Formats) {
  EXPECT_EQ(format_size(0), "0 B");
  EXPECT_EQ(format_size(1023), "1023 B");
  EXPECT_EQ(format_size(1536), "1.50 KiB");
  EXPECT_EQ(format_size(uint64_t{6} << 30), "6.00 GiB");
  EXPECT_EQ(format_duration(1.25), "1.2s");
  EXPECT_EQ(format_duration(59), "59s");
  EXPECT_EQ(format_duration(75.3), "1m15s");
  EXPECT_EQ(format_duration(7260), "2h01m");
}

TEST(Size, NearestName) {
  const std::string names[] = {"Q4_K_M", "Q4_0", "Q8_0"};
  EXPECT_EQ(nearest_name("Q4_KM", names, 3), "Q4_K_M");
  EXPECT_EQ(nearest_name("Q4_O", names, 3), "Q4_0");
  EXPECT_EQ(nearest_name("something else", names, 3), "");
}

}  // namespace
}  // namespace tsubu
