# The sources of src/kernel/generic/ compiled once per instruction set. Each unit defines everything inside namespace
# tsubu::<isa>, so no symbol of one ISA can stand in for another's (tests/symbols_test.py checks the objects).
file(GLOB TSUBU_GENERIC_KERNELS CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/kernel/generic/*.cc)
set(TSUBU_ISAS)
# tsubu_isa(NAME [SOURCES …] [OPTIONS …]): the generic sources, or those given.
function(tsubu_isa name)
  cmake_parse_arguments(PARSE_ARGV 1 ARG "" "" "SOURCES;OPTIONS")
  set(sources ${TSUBU_GENERIC_KERNELS})
  if(ARG_SOURCES)
    set(sources ${ARG_SOURCES})
  endif()
  if(NOT sources)
    return()
  endif()
  string(TOUPPER ${name} upper)
  add_library(tsubu_kernel_${name} OBJECT ${sources})
  target_link_libraries(tsubu_kernel_${name} PRIVATE tsubu_options tsubu_codec)
  target_compile_definitions(tsubu_kernel_${name} PRIVATE TSUBU_ISA=${name} TSUBU_ISA_${upper})
  target_compile_options(tsubu_kernel_${name} PRIVATE ${ARG_OPTIONS})
  set(TSUBU_ISAS ${TSUBU_ISAS} ${name} PARENT_SCOPE)
  set(TSUBU_ISA_DEFINES ${TSUBU_ISA_DEFINES} TSUBU_HAS_${upper} PARENT_SCOPE)
  set(TSUBU_ISA_SOURCES ${TSUBU_ISA_SOURCES} $<TARGET_OBJECTS:tsubu_kernel_${name}> PARENT_SCOPE)
endfunction()

tsubu_isa(scalar)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  tsubu_isa(avx2 OPTIONS -mavx2 -mfma -mf16c)
  # GCC 12 takes the deliberately undefined operand of its own AVX-512 intrinsics for a use of an uninitialized variable.
  set(avx512_quiet $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized> $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni -mavx512bf16 -mavx2 -mfma -mf16c
      -mprefer-vector-width=512 ${avx512_quiet})
  tsubu_isa(avx512 OPTIONS ${avx512})
  # Only what the tile unit does; everything else on such machines is avx512.
  tsubu_isa(amx SOURCES ${PROJECT_SOURCE_DIR}/src/kernel/amx/bf16.cc ${PROJECT_SOURCE_DIR}/src/kernel/amx/packed.cc
            OPTIONS ${avx512} -mamx-tile -mamx-bf16 -mamx-int8)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  tsubu_isa(neon)
endif()
