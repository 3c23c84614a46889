// The layouts' definitions, each in its own file; the list is in layouts.cc.
#pragma once

#include "checkpoint/layout.h"

namespace tsubu {

extern const Layout kGptqLayout, kAwqLayout, kPackQuantizedLayout, kIntQuantizedLayout, kFloatQuantizedLayout,
    kMxfp8QuantizedLayout, kNvfp4Layout, kMxfp4Layout, kFp8BlockLayout, kGptOssLayout, kBnb4Layout, kBnb8Layout,
    kModeloptNvfp4Layout, kModeloptInt4Layout;

}  // namespace tsubu
