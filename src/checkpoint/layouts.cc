// The one list of layouts: to add one, write its file, declare it in layout_list.h, name it here. Where several look at
// the same tensors the first that takes them has them.
#include "checkpoint/layout_list.h"

namespace tsubu {

std::span<const Layout* const> layouts() {
  static constexpr const Layout* kList[] = {
      &kGptqLayout,     &kAwqLayout,   &kPackQuantizedLayout, &kIntQuantizedLayout, &kFloatQuantizedLayout,
      &kMxfp8QuantizedLayout, &kNvfp4Layout, &kMxfp4Layout, &kFp8BlockLayout, &kGptOssLayout,
      &kBnb4Layout, &kBnb8Layout, &kModeloptNvfp4Layout, &kModeloptInt4Layout,
  };
  return kList;
}

}  // namespace tsubu
