// The limits of certify: their list, and what a run's values are against them.
#pragma once

#include "evaluate/certify.h"

namespace tsubu {

// Throws Error(kUsage) for a limit whose value the options do not measure.
void check_limits(const CertifyOptions& options);
// Fills result.gates from its candidates and limits.
void judge(CertifyResult& result);

}  // namespace tsubu
