// The kernel tables, one per instruction set that was compiled in, and the choice between them.
#include "kernel/kernels.h"

#include "kernel/packed_kernels.h"

#ifdef TSUBU_HAS_AVX2
#include <cpuid.h>
#endif
#ifdef TSUBU_HAS_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <string>
#include <vector>

#include "base/error.h"
#include "codec/type_info.h"

#define TSUBU_DECLARE_ISA(isa_name)          \
  namespace isa_name {                       \
  void fill_codec_kernels(Kernels& k);       \
  void fill_gemm_kernels(Kernels& k);        \
  void fill_gram_kernels(Kernels& k);        \
  void fill_elementwise_kernels(Kernels& k); \
  void fill_norm_kernels(Kernels& k);        \
  void fill_rounding_kernels(Kernels& k);    \
  void fill_grid_kernels(Kernels& k);        \
  void fill_lattice_kernels(Kernels& k);     \
  void fill_factor_kernels(Kernels& k);      \
  void fill_integer_kernels(Kernels& k);     \
  void fill_bf16_kernels(Kernels& k);        \
  void fill_packed_kernels(PackedKernels& k); \
  static void fill(Kernels& k) {             \
    k.isa = #isa_name;                       \
    fill_codec_kernels(k);                   \
    fill_gemm_kernels(k);                    \
    fill_gram_kernels(k);                    \
    fill_elementwise_kernels(k);             \
    fill_norm_kernels(k);                    \
    fill_rounding_kernels(k);                \
    fill_grid_kernels(k);                    \
    fill_lattice_kernels(k);                 \
    fill_factor_kernels(k);                  \
    fill_integer_kernels(k);                 \
    fill_bf16_kernels(k);                    \
  }                                          \
  }

namespace tsubu {

TSUBU_DECLARE_ISA(scalar)
#ifdef TSUBU_HAS_AVX2
TSUBU_DECLARE_ISA(avx2)
#endif
#ifdef TSUBU_HAS_AVX512
TSUBU_DECLARE_ISA(avx512)
#endif
#ifdef TSUBU_HAS_AMX
namespace amx {
void fill_bf16_kernels(Kernels& k);
void fill_packed_kernels(PackedKernels& k);
static void fill(Kernels& k) {
  avx512::fill(k);
  k.isa = "amx";
  k.native_bf16 = true;
  fill_bf16_kernels(k);
}
}  // namespace amx
#endif
#ifdef TSUBU_HAS_NEON
TSUBU_DECLARE_ISA(neon)
#endif

namespace {

struct Isa {
  std::string_view name;
  bool (*runs_here)();
  void (*fill)(Kernels& k);
  void (*fill_packed)(PackedKernels& k);
};

#ifdef TSUBU_HAS_AVX2
// Clang 14's __builtin_cpu_supports does not know f16c. Bit 29 of ecx of leaf 1.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 29 & 1) != 0;
}
#endif

#ifdef TSUBU_HAS_AVX512
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni") &&
         __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         has_f16c();
}
#endif

#ifdef TSUBU_HAS_AMX
// AMX-TILE, AMX-BF16 and AMX-INT8 (bits 24, 22 and 25 of edx of leaf 7), and the kernel's leave to use the tiles' state, which this asks
// for: Linux grants it to a process and the threads that it starts from then on.
bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kUnits = 1u << 24 | 1u << 22 | 1u << 25;
  if (!has_avx512() || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kUnits) != kUnits) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}
#endif

// From the simplest to the best.
constexpr Isa kIsas[] = {
    {"scalar", [] { return true; }, scalar::fill, scalar::fill_packed_kernels},
#ifdef TSUBU_HAS_NEON
    {"neon", [] { return true; }, neon::fill, neon::fill_packed_kernels},
#endif
#ifdef TSUBU_HAS_AVX2
    {"avx2",
     [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); },
     avx2::fill, avx2::fill_packed_kernels},
#endif
#ifdef TSUBU_HAS_AVX512
    {"avx512", has_avx512,
     [](Kernels& k) {
       avx512::fill(k);
       // Intel's cores take longer over vdpbf16ps than over two fma; they have the tile unit for it.
       k.native_bf16 = __builtin_cpu_is("amd");
     },
     avx512::fill_packed_kernels},
#endif
#ifdef TSUBU_HAS_AMX
    {"amx", has_amx, amx::fill,
     [](PackedKernels& k) {
       avx512::fill_packed_kernels(k);
       amx::fill_packed_kernels(k);
     }},
#endif
};

struct Tables {
  std::vector<Kernels> all;
  std::vector<PackedKernels> packed;
  std::vector<const Kernels*> pointers;

  Tables() {
    if (types().size() > kMaxTypes)
      fail(ExitCode::kUnsupported, "kernel tables: {} codecs, room for {}: raise kMaxTypes", types().size(), kMaxTypes);
    for (const Isa& isa : kIsas) {
      if (!isa.runs_here()) continue;
      isa.fill(all.emplace_back(Kernels{}));
      isa.fill_packed(packed.emplace_back(PackedKernels{}));
    }
    for (const Kernels& k : all) pointers.push_back(&k);
  }
};

const Tables& tables() {
  static const Tables instance;
  return instance;
}

}  // namespace

const Kernels& kernels_named(std::string_view name) {
  std::string available;
  for (const Kernels* k : tables().pointers) {
    if (k->isa == name) return *k;
    available += (available.empty() ? "" : ", ") + std::string(k->isa);
  }
  fail(ExitCode::kUsage, "TSUBU_ISA={}: no such instruction set on this machine (available: {})", name, available);
}

const Kernels& kernels() {
  static const Kernels& chosen = [&]() -> const Kernels& {
    const char* wanted = std::getenv("TSUBU_ISA");
    return wanted && *wanted ? kernels_named(wanted) : *tables().pointers.back();
  }();
  return chosen;
}

const PackedKernels& packed_kernels_named(std::string_view isa) {
  return tables().packed[static_cast<size_t>(&kernels_named(isa) - tables().all.data())];
}

const PackedKernels& packed_kernels() {
  static const PackedKernels& chosen = packed_kernels_named(kernels().isa);
  return chosen;
}

std::span<const Kernels* const> runnable_kernels() { return tables().pointers; }

}  // namespace tsubu
