// A scan in memory, and what a user can mend.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace adnext {

// One line: which file, which value, what to do. Programs print it and exit with code 2.
struct UserError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

using Shape = std::array<std::int64_t, 3>;  // z, y, x
using Spacing = std::array<double, 3>;      // mm; z, y, x
using Affine = std::array<std::array<double, 4>, 3>;  // rows of NIfTI's matrix, voxel x, y, z to mm

inline std::size_t voxels(const Shape& shape) {
  return static_cast<std::size_t>(shape[0]) * shape[1] * shape[2];
}

// Intensities in the order of memory that NIfTI and NumPy share: x is the fastest.
struct Volume {
  Shape shape{};
  Affine affine{};
  std::vector<float> values;
};

}  // namespace adnext
