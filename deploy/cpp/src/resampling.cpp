#include "resampling.h"

#include <algorithm>
#include <cmath>

namespace adnext {
namespace {

using Matrix = std::vector<double>;

double blur_voxels(double detail, int degree) {
  const double excess = std::max(detail, 1.0) - 1.0;
  return degree == 1 ? excess / 2 : std::sqrt(excess * (excess + 2) / 12);
}

// (n, n): what scipy's gaussian_filter1d makes of single voxels, with the nearest voxel beyond the edge
Matrix gaussian(std::int64_t n, double sigma) {
  const auto radius = static_cast<std::int64_t>(4.0 * sigma + 0.5);
  std::vector<double> kernel;
  double total = 0;
  for (std::int64_t k = -radius; k <= radius; ++k) {
    kernel.push_back(std::exp(-0.5 * static_cast<double>(k * k) / (sigma * sigma)));
    total += kernel.back();
  }
  Matrix found(static_cast<std::size_t>(n * n), 0.0);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t k = -radius; k <= radius; ++k)
      found[i * n + std::clamp<std::int64_t>(i + k, 0, n - 1)] += kernel[k + radius] / total;
  return found;
}

// (n, n): second derivatives at the voxels of the cubic spline through them, whose third is continuous next to the ends
Matrix second_derivatives(std::int64_t n) {
  const std::int64_t width = 2 * n;
  Matrix rows(static_cast<std::size_t>(n * width), 0.0);
  const auto at = [&](std::int64_t row, std::int64_t column) -> double& { return rows[row * width + column]; };
  for (std::int64_t i = 1; i + 1 < n; ++i) {
    at(i, i - 1) = 1, at(i, i) = 4, at(i, i + 1) = 1;
    at(i, n + i - 1) = 6, at(i, n + i) = -12, at(i, n + i + 1) = 6;
  }
  at(0, 0) = 1, at(0, 1) = -2, at(0, 2) = 1;
  at(n - 1, n - 1) = 1, at(n - 1, n - 2) = -2, at(n - 1, n - 3) = 1;
  for (std::int64_t pivot = 0; pivot < n; ++pivot) {
    std::int64_t best = pivot;
    for (std::int64_t row = pivot + 1; row < std::min(n, pivot + 3); ++row)
      if (std::abs(at(row, pivot)) > std::abs(at(best, pivot))) best = row;
    // the last row reaches two to the left, so that it may be the one
    if (std::abs(at(n - 1, pivot)) > std::abs(at(best, pivot))) best = n - 1;
    if (best != pivot)
      std::swap_ranges(rows.begin() + best * width, rows.begin() + (best + 1) * width, rows.begin() + pivot * width);
    const double lead = at(pivot, pivot);
    for (std::int64_t column = pivot; column < width; ++column) at(pivot, column) /= lead;
    for (std::int64_t row = 0; row < n; ++row) {
      const double factor = at(row, pivot);
      if (row == pivot || factor == 0) continue;
      for (std::int64_t column = pivot; column < width; ++column) at(row, column) -= factor * at(pivot, column);
    }
  }
  Matrix found(static_cast<std::size_t>(n * n));
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j) found[i * n + j] = at(i, n + j);
  return found;
}

// (count, size): values of the spline at places on the axis
Matrix spline(const Axis& axis, int degree) {
  const std::int64_t n = axis.size;
  const bool cubic = degree == 3 && n > 3;
  const Matrix bends = cubic ? second_derivatives(n) : Matrix{};
  Matrix found(static_cast<std::size_t>(axis.count * n), 0.0);
  for (std::int64_t i = 0; i < axis.count; ++i) {
    const double middle = static_cast<double>(n - 1) / 2;
    const double wanted = middle + axis.step * (static_cast<double>(i) - static_cast<double>(axis.count - 1) / 2);
    const double place = std::clamp(wanted, 0.0, static_cast<double>(n - 1));
    const std::int64_t left = std::min(static_cast<std::int64_t>(place), n - 2);
    const double b = place - static_cast<double>(left), a = 1 - b;
    double* row = found.data() + i * n;
    row[left] += a;
    row[left + 1] += b;
    if (!cubic) continue;
    for (std::int64_t j = 0; j < n; ++j)
      row[j] += ((a * a * a - a) * bends[left * n + j] + (b * b * b - b) * bends[(left + 1) * n + j]) / 6;
  }
  return found;
}

std::vector<float> multiplied(const std::vector<float>& values, const std::array<Axis, 3>& axes, int degree) {
  const auto z = axis_weights(axes[0], degree), y = axis_weights(axes[1], degree), x = axis_weights(axes[2], degree);
  const std::int64_t nz = axes[0].size, ny = axes[1].size, nx = axes[2].size;
  const std::int64_t mz = axes[0].count, my = axes[1].count, mx = axes[2].count;
  // in float64, where the Python package multiplies in float32: the difference is far below what float16 keeps
  std::vector<double> along_z(static_cast<std::size_t>(mz * ny * nx), 0.0);
  for (std::int64_t i = 0; i < mz; ++i)
    for (std::int64_t k = 0; k < nz; ++k) {
      const double weight = z[i * nz + k];
      if (weight == 0) continue;
      const float* source = values.data() + k * ny * nx;
      double* target = along_z.data() + i * ny * nx;
      for (std::int64_t j = 0; j < ny * nx; ++j) target[j] += weight * source[j];
    }
  std::vector<double> plane(static_cast<std::size_t>(my * nx));
  std::vector<float> found(static_cast<std::size_t>(mz * my * mx));
  for (std::int64_t i = 0; i < mz; ++i) {
    std::fill(plane.begin(), plane.end(), 0.0);
    for (std::int64_t j = 0; j < my; ++j)
      for (std::int64_t k = 0; k < ny; ++k) {
        const double weight = y[j * ny + k];
        if (weight == 0) continue;
        const double* source = along_z.data() + (i * ny + k) * nx;
        double* target = plane.data() + j * nx;
        for (std::int64_t l = 0; l < nx; ++l) target[l] += weight * source[l];
      }
    for (std::int64_t j = 0; j < my; ++j)
      for (std::int64_t l = 0; l < mx; ++l) {
        double sum = 0;
        for (std::int64_t k = 0; k < nx; ++k) sum += x[l * nx + k] * plane[j * nx + k];
        found[(i * my + j) * mx + l] = static_cast<float>(sum);
      }
  }
  return found;
}

}  // namespace

std::vector<double> axis_weights(const Axis& axis, int degree) {
  if (axis.size == 1) return Matrix(static_cast<std::size_t>(axis.count), 1.0);
  Matrix places = spline(axis, degree);
  if (!(axis.detail > 1)) return places;
  const Matrix blur = gaussian(axis.size, blur_voxels(axis.detail, degree));
  Matrix found(places.size(), 0.0);
  const std::int64_t n = axis.size;
  for (std::int64_t i = 0; i < axis.count; ++i)
    for (std::int64_t k = 0; k < n; ++k) {
      const double weight = places[i * n + k];
      if (weight == 0) continue;
      for (std::int64_t j = 0; j < n; ++j) found[i * n + j] += weight * blur[k * n + j];
    }
  return found;
}

std::vector<float> sample(const std::vector<float>& values, const std::array<Axis, 3>& axes, bool cubic) {
  auto sampled = multiplied(values, axes, cubic ? 3 : 1);
  if (!cubic) return sampled;
  std::vector<float> support(values.size());
  std::transform(values.begin(), values.end(), support.begin(), [](float value) { return value != 0 ? 1.0f : 0.0f; });
  const auto inside = multiplied(support, axes, 1);
  for (std::size_t i = 0; i < sampled.size(); ++i)
    if (!(inside[i] > 0)) sampled[i] = 0;
  return sampled;
}

}  // namespace adnext
