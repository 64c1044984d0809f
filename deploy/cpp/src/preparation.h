// From a skull-stripped scan to the network's input, as a plan says: adnext_plugin/preprocessing in C++.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "volume.h"

namespace adnext {

struct Plan {
  Spacing spacing_mm{1.75, 1.75, 1.75};
  Shape input_size{128, 128, 128};
  bool resize = false;  // stretch the brain's box, or pad and crop
  bool cubic = false;
  std::optional<std::pair<double, double>> clip_percentiles{{0.5, 99.5}};
};

// RAS, the brain's box, clipping, z-score, one interpolation, float16. Throws UserError: there is no foreground, or it is
// constant.
Volume prepared(const Volume& scan, const Plan& plan, const std::string& path);

// Flips and swaps axes so that z, y, x run to superior, anterior, right; no voxel is interpolated.
Volume reoriented(const Volume& scan);

}  // namespace adnext
