// Axis-aligned resampling as one matrix per axis: adnext_plugin/preprocessing/grid/interpolation.py in C++.
#pragma once

#include "volume.h"

namespace adnext {

struct Axis {
  std::int64_t size;   // voxels of the volume
  std::int64_t count;  // points wanted, about its centre
  double step;         // between them, voxels
  double detail;       // length in voxels of the finest detail wanted
};

// Row-major (count, size) weights; `degree` is 1 (linear) or 3 (the cubic spline through all voxels, not-a-knot ends).
std::vector<double> axis_weights(const Axis& axis, int degree);

// Values on a grid about the volume's centre; `cubic` gives 0 where linear interpolation finds nothing.
std::vector<float> sample(const std::vector<float>& values, const std::array<Axis, 3>& axes, bool cubic);

}  // namespace adnext
