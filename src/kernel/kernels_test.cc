#include "kernel/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "codec/type_info.h"
#include "kernel/kernel_test_util.h"

namespace tsubu {
namespace {

TEST(Dispatch, ScalarIsFirstAndEachRunsOnce) {
  const auto all = runnable_kernels();
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all.front()->isa, "scalar");
  for (const Kernels* k : all) {
    EXPECT_EQ(&kernels_named(k->isa), k);
    EXPECT_EQ(std::count_if(all.begin(), all.end(), [&](const Kernels* o) { return o->isa == k->isa; }), 1);
  }
}

TEST(Dispatch, UnknownNameListsWhatIsAvailable) {
  try {
    kernels_named("sse9");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    EXPECT_NE(std::string(e.what()).find("sse9"), std::string::npos) << e.what();
    for (const Kernels* k : runnable_kernels())
      EXPECT_NE(std::string(e.what()).find(k->isa), std::string::npos) << e.what();
  }
}

TEST(Dispatch, EveryEntryIsThere) {
  for (const Kernels* k : runnable_kernels()) {
    EXPECT_TRUE(k->gemm_nt && k->dot && k->axpy && k->rms_norm && k->layer_norm && k->softmax && k->log_sum_exp &&
                k->silu_mul && k->gelu && k->add && k->round_q8_0 && k->round_q8_k && k->gemm_i8 && k->scale_sums &&
                k->max_magnitude && k->encode_i8 && k->round_to_rule)
        << k->isa;
    for (const TypeInfo& type : types()) {
      EXPECT_EQ(k->decode[type.index] != nullptr, type.decode != nullptr) << k->isa << " " << type.name;
      EXPECT_EQ(k->encode[type.index] != nullptr, type.encode != nullptr) << k->isa << " " << type.name;
    }
  }
}

}  // namespace
}  // namespace tsubu
