#include "preparation.h"

#include <algorithm>
#include <cmath>

#include "npy.h"
#include "resampling.h"

namespace adnext {
namespace {

using Square = std::array<std::array<double, 3>, 3>;

Square inverse_transposed(const Square& m) {
  Square c;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      const int i1 = (i + 1) % 3, i2 = (i + 2) % 3, j1 = (j + 1) % 3, j2 = (j + 2) % 3;
      c[i][j] = m[i1][j1] * m[i2][j2] - m[i1][j2] * m[i2][j1];
    }
  const double determinant = m[0][0] * c[0][0] + m[0][1] * c[0][1] + m[0][2] * c[0][2];
  for (auto& row : c)
    for (auto& value : row) value /= determinant;
  return c;
}

// The orthogonal matrix nearest to the directions of a scan's axes (Higham 1986, SIAM J Sci Stat Comput 7:1160)
Square nearest_rotation(const Affine& affine, const Spacing& edge_xyz) {
  Square m;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) m[i][j] = affine[i][j] / edge_xyz[j];
  for (int step = 0; step < 100; ++step) {
    const Square other = inverse_transposed(m);
    double change = 0;
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) {
        const double next = (m[i][j] + other[i][j]) / 2;
        change = std::max(change, std::abs(next - m[i][j]));
        m[i][j] = next;
      }
    if (change < 1e-14) break;
  }
  return m;
}

Spacing edges_xyz(const Affine& affine) {
  Spacing edges;
  for (int axis = 0; axis < 3; ++axis) edges[axis] = std::hypot(affine[0][axis], affine[1][axis], affine[2][axis]);
  return edges;
}

struct Orientation {
  std::array<int, 3> world;    // for x, y, z of the file: which of right, anterior, superior it runs along
  std::array<bool, 3> flipped;
};

// As nibabel's io_orientation: the axis that fits best chooses first
Orientation orientation_of(const Affine& affine) {
  const Square rotation = nearest_rotation(affine, edges_xyz(affine));
  const auto largest = [&](int column) {
    return std::max({std::abs(rotation[0][column]), std::abs(rotation[1][column]), std::abs(rotation[2][column])});
  };
  std::array<int, 3> order{0, 1, 2};
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return largest(a) > largest(b); });
  Orientation found{};
  std::array<bool, 3> taken{};
  for (const int column : order) {
    int best = -1;
    for (int row = 0; row < 3; ++row)
      if (!taken[row] && (best < 0 || std::abs(rotation[row][column]) > std::abs(rotation[best][column]))) best = row;
    taken[best] = true;
    found.world[column] = best;
    found.flipped[column] = rotation[best][column] < 0;
  }
  return found;
}

bool is_foreground(float value, bool has_negative) { return has_negative ? value != 0 : value > 0; }

bool has_negative(const std::vector<float>& values) {
  return std::any_of(values.begin(), values.end(), [](float value) { return value < 0; });
}

std::vector<float> box_of(const Volume& scan, Shape& shape, const std::string& path) {
  const bool negative = has_negative(scan.values);
  const auto [nz, ny, nx] = scan.shape;
  Shape low{nz, ny, nx}, high{-1, -1, -1};
  std::size_t at = 0;
  for (std::int64_t z = 0; z < nz; ++z)
    for (std::int64_t y = 0; y < ny; ++y)
      for (std::int64_t x = 0; x < nx; ++x, ++at) {
        if (!is_foreground(scan.values[at], negative)) continue;
        const Shape place{z, y, x};
        for (int axis = 0; axis < 3; ++axis) {
          low[axis] = std::min(low[axis], place[axis]);
          high[axis] = std::max(high[axis], place[axis]);
        }
      }
  if (high[0] < 0) throw UserError(path + ": the scan has no foreground: no intensity is above 0");
  for (int axis = 0; axis < 3; ++axis) shape[axis] = high[axis] - low[axis] + 1;
  std::vector<float> box;
  box.reserve(voxels(shape));
  for (std::int64_t z = low[0]; z <= high[0]; ++z)
    for (std::int64_t y = low[1]; y <= high[1]; ++y) {
      const auto begin = scan.values.begin() + (z * ny + y) * nx;
      box.insert(box.end(), begin + low[2], begin + high[2] + 1);
    }
  return box;
}

// NumPy's percentile, linear between neighbours
double percentile(const std::vector<float>& sorted, double percent) {
  const double place = percent / 100 * static_cast<double>(sorted.size() - 1);
  const auto left = static_cast<std::size_t>(place);
  const auto right = std::min(left + 1, sorted.size() - 1);
  return sorted[left] + (static_cast<double>(sorted[right]) - sorted[left]) * (place - static_cast<double>(left));
}

// Clips and standardises the foreground of a box, each with the foreground that it finds, as the Python steps do
void normalise(std::vector<float>& box, const Plan& plan, const std::string& path) {
  std::vector<double> values(box.begin(), box.end());
  const bool negative = has_negative(box);
  if (plan.clip_percentiles) {
    std::vector<float> inside;
    for (const float value : box)
      if (is_foreground(value, negative)) inside.push_back(value);
    std::sort(inside.begin(), inside.end());
    const double low = percentile(inside, plan.clip_percentiles->first);
    const double high = percentile(inside, plan.clip_percentiles->second);
    for (std::size_t i = 0; i < box.size(); ++i)
      if (is_foreground(box[i], negative)) values[i] = std::clamp(values[i], low, high);
  }
  const bool still_negative = std::any_of(values.begin(), values.end(), [](double value) { return value < 0; });
  const auto inside = [&](double value) { return still_negative ? value != 0 : value > 0; };
  double sum = 0, squares = 0;
  std::size_t count = 0;
  for (const double value : values)
    if (inside(value)) sum += value, ++count;
  const double mean = count ? sum / static_cast<double>(count) : 0;
  for (const double value : values)
    if (inside(value)) squares += (value - mean) * (value - mean);
  const double deviation = count ? std::sqrt(squares / static_cast<double>(count)) : 0;
  if (!(deviation > 0) || !std::isfinite(deviation))
    throw UserError(path + ": the foreground is constant; is this a mask instead of a scan?");
  for (std::size_t i = 0; i < box.size(); ++i)
    box[i] = inside(values[i]) ? static_cast<float>((values[i] - mean) / deviation) : 0.0f;
}

std::vector<float> padded_or_cropped(const std::vector<float>& values, const Shape& have, const Shape& want) {
  std::vector<float> found(voxels(want), 0.0f);
  Shape length, from, to;
  for (int axis = 0; axis < 3; ++axis) {
    length[axis] = std::min(have[axis], want[axis]);
    from[axis] = (have[axis] - length[axis]) / 2;
    to[axis] = (want[axis] - length[axis]) / 2;
  }
  for (std::int64_t z = 0; z < length[0]; ++z)
    for (std::int64_t y = 0; y < length[1]; ++y) {
      const auto source = values.begin() + ((z + from[0]) * have[1] + y + from[1]) * have[2] + from[2];
      std::copy_n(source, length[2], found.begin() + ((z + to[0]) * want[1] + y + to[1]) * want[2] + to[2]);
    }
  return found;
}

std::vector<float> on_grid(const std::vector<float>& box, const Shape& shape, const Shape& counts, const Spacing& step,
                           const Spacing& detail, bool cubic) {
  bool same = shape == counts;
  for (int axis = 0; axis < 3; ++axis) same = same && std::abs(step[axis] - 1) <= 1e-8 + 1e-5 && detail[axis] <= 1;
  if (same) return box;
  std::array<Axis, 3> axes;
  for (int axis = 0; axis < 3; ++axis) axes[axis] = {shape[axis], counts[axis], step[axis], detail[axis]};
  return sample(box, axes, cubic);
}

}  // namespace

Volume reoriented(const Volume& scan) {
  const Orientation orientation = orientation_of(scan.affine);
  Volume found;
  const Shape sizes_xyz{scan.shape[2], scan.shape[1], scan.shape[0]};
  const Shape strides_xyz{1, scan.shape[2], scan.shape[2] * scan.shape[1]};
  Shape size_of_world{}, stride_of_world{};
  std::int64_t start = 0;
  for (int axis = 0; axis < 3; ++axis) {
    const int world = orientation.world[axis];
    size_of_world[world] = sizes_xyz[axis];
    stride_of_world[world] = orientation.flipped[axis] ? -strides_xyz[axis] : strides_xyz[axis];
    if (orientation.flipped[axis]) start += strides_xyz[axis] * (sizes_xyz[axis] - 1);
    for (int row = 0; row < 3; ++row) found.affine[row][world] = (orientation.flipped[axis] ? -1 : 1) * scan.affine[row][axis];
  }
  found.shape = {size_of_world[2], size_of_world[1], size_of_world[0]};
  found.values.reserve(scan.values.size());
  for (std::int64_t z = 0; z < size_of_world[2]; ++z)
    for (std::int64_t y = 0; y < size_of_world[1]; ++y)
      for (std::int64_t x = 0; x < size_of_world[0]; ++x) {
        const std::int64_t at = start + z * stride_of_world[2] + y * stride_of_world[1] + x * stride_of_world[0];
        found.values.push_back(scan.values[static_cast<std::size_t>(at)]);
      }
  return found;
}

Volume prepared(const Volume& scan, const Plan& plan, const std::string& path) {
  const Volume turned = reoriented(scan);
  const Spacing xyz = edges_xyz(turned.affine);
  const Spacing spacing{xyz[2], xyz[1], xyz[0]};
  Shape shape{};
  std::vector<float> box = box_of(turned, shape, path);
  normalise(box, plan, path);
  Shape counts{};
  Spacing step{}, detail{};
  for (int axis = 0; axis < 3; ++axis) {
    const double ratio = plan.spacing_mm[axis] / spacing[axis];
    if (plan.resize) {
      counts[axis] = plan.input_size[axis];
      step[axis] = static_cast<double>(shape[axis]) / static_cast<double>(counts[axis]);
      detail[axis] = std::max(step[axis], ratio);
    } else {
      const double rounded = std::nearbyint(static_cast<double>(shape[axis]) / ratio);
      counts[axis] = std::max<std::int64_t>(1, static_cast<std::int64_t>(rounded));
      step[axis] = detail[axis] = ratio;
    }
  }
  Volume found;
  found.shape = plan.input_size;
  found.values = on_grid(box, shape, counts, step, detail, plan.cubic);
  if (!plan.resize) found.values = padded_or_cropped(found.values, counts, plan.input_size);
  for (auto& value : found.values) {
    value = rounded_to_half(value);
    if (!std::isfinite(value))
      throw UserError(path + ": preparing it gives values that are not finite; look at the scan, or leave it out");
  }
  return found;
}

}  // namespace adnext
