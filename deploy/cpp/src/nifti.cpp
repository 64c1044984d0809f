#include "nifti.h"

#include <zlib.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>

namespace adnext {
namespace {

constexpr std::size_t kHeaderBytes = 348;
constexpr std::int64_t kMostVoxels = std::int64_t{1} << 30;
constexpr std::int64_t kMostGain = 1032;  // bytes of voxels per byte of a compressed file; gzip can do no better
constexpr std::int64_t kFewestSlices = 5;
constexpr double kMostExtentMm = 1000.0, kLeastVoxelMm = 0.01;

struct Closer {
  void operator()(gzFile file) const { gzclose(file); }
};
using File = std::unique_ptr<std::remove_pointer_t<gzFile>, Closer>;

void swap_bytes(unsigned char* bytes, std::size_t size, std::size_t count) {
  for (std::size_t item = 0; item < count; ++item, bytes += size)
    for (std::size_t i = 0; i < size / 2; ++i) std::swap(bytes[i], bytes[size - 1 - i]);
}

class Header {
 public:
  Header(const unsigned char* bytes, bool swapped) : swapped_(swapped) { std::memcpy(bytes_, bytes, kHeaderBytes); }

  template <typename T>
  T at(std::size_t offset) const {
    unsigned char raw[sizeof(T)];
    std::memcpy(raw, bytes_ + offset, sizeof(T));
    if (swapped_) swap_bytes(raw, sizeof(T), 1);
    T value;
    std::memcpy(&value, raw, sizeof(T));
    return value;
  }
  std::int64_t dim(int axis) const { return at<std::int16_t>(40 + 2 * axis); }
  double pixdim(int axis) const { return at<float>(76 + 4 * axis); }
  bool swapped() const { return swapped_; }

 private:
  unsigned char bytes_[kHeaderBytes];
  bool swapped_;
};

void read_exactly(gzFile file, void* target, std::size_t bytes, const std::string& path) {
  auto* position = static_cast<unsigned char*>(target);
  while (bytes > 0) {
    const unsigned part = static_cast<unsigned>(std::min<std::size_t>(bytes, 1u << 30));
    const int got = gzread(file, position, part);
    if (got <= 0) {
      int code = 0;
      const char* reason = gzerror(file, &code);
      const std::string why = got < 0 && code != Z_OK ? std::string(" (") + (reason ? reason : "") + ")" : "";
      throw UserError(path + " cannot be read" + why + "; the file is damaged or cut short, fetch it again");
    }
    position += got;
    bytes -= static_cast<std::size_t>(got);
  }
}

template <typename T>
void convert(const unsigned char* raw, std::size_t count, double slope, double intercept, float* target) {
  for (std::size_t i = 0; i < count; ++i, raw += sizeof(T)) {
    T value;
    std::memcpy(&value, raw, sizeof(T));
    target[i] = static_cast<float>(static_cast<double>(value) * slope + intercept);
  }
}

using Convert = void (*)(const unsigned char*, std::size_t, double, double, float*);
struct Type {
  std::size_t bytes;
  Convert convert;
};

Type type_of(int code, const std::string& path) {
  switch (code) {
    case 2: return {1, convert<std::uint8_t>};
    case 4: return {2, convert<std::int16_t>};
    case 8: return {4, convert<std::int32_t>};
    case 16: return {4, convert<float>};
    case 64: return {8, convert<double>};
    case 256: return {1, convert<std::int8_t>};
    case 512: return {2, convert<std::uint16_t>};
    case 768: return {4, convert<std::uint32_t>};
    case 1024: return {8, convert<std::int64_t>};
    case 1280: return {8, convert<std::uint64_t>};
    default:
      throw UserError(path + " has voxels of NIfTI's data type " + std::to_string(code) +
                      ", not intensities; give a scan of whole or real numbers");
  }
}

Shape shape_of(const Header& header, const std::string& path) {
  std::int64_t axes = header.dim(0);
  if (axes < 1 || axes > 7)
    throw UserError(path + " cannot be read (" + std::to_string(axes) + " axes); the file is damaged or not NIfTI");
  while (axes > 3 && header.dim(static_cast<int>(axes)) == 1) --axes;
  std::string text;
  for (int axis = 1; axis <= axes; ++axis) text += (axis > 1 ? ", " : "") + std::to_string(header.dim(axis));
  if (axes != 3)
    throw UserError(path + " has shape (" + text + "), but one 3D volume is needed; extract it first");
  const Shape shape{header.dim(3), header.dim(2), header.dim(1)};
  for (const auto size : shape) {
    if (size < 1) throw UserError(path + " has shape (" + text + "), so it is empty or damaged; fetch it again");
    if (size < kFewestSlices)
      throw UserError(path + " has shape (" + text + "), a few slices of a head; give the whole scan");
  }
  return shape;
}

Affine by_quaternion(const Header& header, const std::string& path) {
  const double b = header.at<float>(256), c = header.at<float>(260), d = header.at<float>(264);
  const double rest = 1.0 - (b * b + c * c + d * d);
  if (!(rest > -1e-6)) throw UserError(path + " has a qform that is no rotation; repair the header");
  const double a = std::sqrt(std::max(rest, 0.0));
  const double scale = 1.0 / (a * a + b * b + c * c + d * d);
  const double qfac = header.pixdim(0) == -1.0 ? -1.0 : 1.0;
  const double zoom[3] = {std::abs(header.pixdim(1)), std::abs(header.pixdim(2)), std::abs(header.pixdim(3)) * qfac};
  const double rotation[3][3] = {
      {1 - 2 * scale * (c * c + d * d), 2 * scale * (b * c - a * d), 2 * scale * (b * d + a * c)},
      {2 * scale * (b * c + a * d), 1 - 2 * scale * (b * b + d * d), 2 * scale * (c * d - a * b)},
      {2 * scale * (b * d - a * c), 2 * scale * (c * d + a * b), 1 - 2 * scale * (b * b + c * c)}};
  Affine affine{};
  for (int row = 0; row < 3; ++row) {
    for (int column = 0; column < 3; ++column) affine[row][column] = rotation[row][column] * zoom[column];
    affine[row][3] = header.at<float>(268 + 4 * row);
  }
  return affine;
}

Affine affine_of(const Header& header, const Shape& shape, const std::string& path) {
  Affine affine{};
  if (header.at<std::int16_t>(254) > 0) {
    for (int row = 0; row < 3; ++row)
      for (int column = 0; column < 4; ++column) affine[row][column] = header.at<float>(280 + 16 * row + 4 * column);
    return affine;
  }
  if (header.at<std::int16_t>(252) > 0) return by_quaternion(header, path);
  for (int axis = 0; axis < 3; ++axis) {
    // a header that says nothing is taken for Analyze's, whose x runs to the left
    const double zoom = std::abs(header.pixdim(axis + 1)) * (axis == 0 ? -1 : 1);
    affine[axis][axis] = zoom;
    affine[axis][3] = -zoom * static_cast<double>(shape[2 - axis] - 1) / 2;
  }
  return affine;
}

void check_affine(const Affine& m, const Shape& shape, const std::string& path) {
  const double determinant = m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) -
                             m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
                             m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
  bool finite = std::isfinite(determinant) && std::abs(determinant) >= 1e-9;
  for (const auto& row : m) finite = finite && std::isfinite(row[3]);
  if (!finite) throw UserError(path + " has an affine that cannot be inverted; repair the header (qform/sform)");
  for (int axis = 0; axis < 3; ++axis) {
    const double edge = std::hypot(m[0][axis], m[1][axis], m[2][axis]);
    if (edge * static_cast<double>(shape[2 - axis]) > kMostExtentMm || edge < kLeastVoxelMm)
      throw UserError(path + " has voxels of " + std::to_string(edge) +
                      " mm along an axis, which is no head; repair the header (pixdim, qform, sform)");
  }
}

void check_values(Volume& volume, const std::string& path) {
  auto& values = volume.values;
  const auto [z, y, x] = volume.shape;
  bool background = true;
  for (int corner = 0; corner < 8; ++corner) {
    const std::int64_t at = (((corner & 4) ? z - 1 : 0) * y + ((corner & 2) ? y - 1 : 0)) * x + ((corner & 1) ? x - 1 : 0);
    background = background && std::isnan(values[static_cast<std::size_t>(at)]);
  }
  std::size_t bad = 0;
  float low = std::numeric_limits<float>::infinity(), high = -low;
  for (auto& value : values) {
    if (background && std::isnan(value)) value = 0.0f;
    if (!std::isfinite(value)) ++bad;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  if (bad > 0)
    throw UserError(path + " has " + std::to_string(bad) + " NaN or infinite voxels; replace them or leave it out");
  if (!(low < high)) throw UserError(path + " is constant: every voxel is the same; leave it out");
}

}  // namespace

Volume read_nifti(const std::string& path) {
  std::error_code code;
  if (!std::filesystem::is_regular_file(path, code)) throw UserError(path + " does not exist; check the path");
  const auto file_bytes = static_cast<std::int64_t>(std::filesystem::file_size(path, code));
  const File file(gzopen(path.c_str(), "rb"));
  if (code || !file) throw UserError(path + " cannot be opened; check its permissions");
  unsigned char raw[kHeaderBytes];
  read_exactly(file.get(), raw, kHeaderBytes, path);
  std::int32_t size = 0;
  std::memcpy(&size, raw, 4);
  const bool swapped = size != static_cast<std::int32_t>(kHeaderBytes);
  const Header header(raw, swapped);
  if (header.at<std::int32_t>(0) != static_cast<std::int32_t>(kHeaderBytes) || std::memcmp(raw + 344, "n+1", 4) != 0)
    throw UserError(path + " is not NIfTI-1 in one file (.nii, .nii.gz); convert it");
  const Shape shape = shape_of(header, path);
  const Type type = type_of(header.at<std::int16_t>(70), path);
  const auto count = static_cast<std::int64_t>(voxels(shape));
  if (count > kMostVoxels || count * static_cast<std::int64_t>(type.bytes) > kMostGain * file_bytes)
    throw UserError(path + " has " + std::to_string(file_bytes) + " bytes, but its header claims " +
                    std::to_string(count) + " voxels; the file is damaged, fetch it again");
  const Affine affine = affine_of(header, shape, path);
  check_affine(affine, shape, path);
  const double offset = header.at<float>(108);
  if (!(offset >= 0 && offset < 1e9)) throw UserError(path + " says that its voxels begin nowhere; fetch it again");
  // 0 stands for "right after the header"
  const auto begin = std::max<z_off_t>(static_cast<z_off_t>(offset), offset == 0 ? 352 : kHeaderBytes);
  if (gzseek(file.get(), begin, SEEK_SET) != begin)
    throw UserError(path + " cannot be read; the file is damaged or cut short, fetch it again");
  std::vector<unsigned char> bytes(static_cast<std::size_t>(count) * type.bytes);
  read_exactly(file.get(), bytes.data(), bytes.size(), path);
  if (swapped) swap_bytes(bytes.data(), type.bytes, static_cast<std::size_t>(count));
  double slope = header.at<float>(112), intercept = header.at<float>(116);
  if (slope == 0 || !std::isfinite(slope)) slope = 1.0, intercept = 0.0;
  if (!std::isfinite(intercept)) throw UserError(path + " has no finite scl_inter; repair the header");
  Volume volume{shape, affine, std::vector<float>(static_cast<std::size_t>(count))};
  type.convert(bytes.data(), static_cast<std::size_t>(count), slope, intercept, volume.values.data());
  check_values(volume, path);
  return volume;
}

}  // namespace adnext
