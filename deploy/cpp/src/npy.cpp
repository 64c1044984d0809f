#include "npy.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace adnext {
namespace {

float from_half(std::uint16_t half) {
  const int exponent = (half >> 10) & 31, fraction = half & 1023;
  const float sign = half & 0x8000 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? std::nanf("") : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
}

std::int64_t number_at(const std::string& text, std::size_t& at, const std::string& path) {
  std::int64_t value = 0;
  bool found = false;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9' && value < 1000000; ++at, found = true)
    value = 10 * value + (text[at] - '0');
  if (!found || value < 1 || value > 4096) throw UserError(path + " has an impossible shape; write it again");
  return value;
}

// "{'descr': '<f2', 'fortran_order': False, 'shape': (1, 96, 96, 96), }" to its last three numbers
Shape shape_in(const std::string& header, const std::string& path) {
  const auto open = header.find("'shape': (");
  if (open == std::string::npos) throw UserError(path + " is no .npy file; write it with prepared_to_npy.py");
  std::vector<std::int64_t> sizes;
  for (std::size_t at = open + 10; at < header.size() && header[at] != ')';) {
    if (header[at] == ',' || header[at] == ' ') {
      ++at;
      continue;
    }
    sizes.push_back(number_at(header, at, path));
    if (sizes.size() > 4) break;
  }
  while (sizes.size() > 3 && sizes.front() == 1) sizes.erase(sizes.begin());
  if (sizes.size() != 3) throw UserError(path + " has no three axes; one prepared volume is needed");
  return {sizes[0], sizes[1], sizes[2]};
}

}  // namespace

float rounded_to_half(float value) {
  const float magnitude = std::abs(value);
  if (!(magnitude < 65520.0f)) return value < 0 ? -INFINITY : (std::isnan(value) ? value : INFINITY);
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  // eleven bits, or what is left of them below 2^-14; nearbyint takes ties to even
  const int unit = std::max(exponent - 11, -24);
  return std::copysign(std::ldexp(std::nearbyint(std::ldexp(magnitude, -unit)), unit), value);
}

Volume read_npy(const std::string& path) {
  std::error_code code;
  if (!std::filesystem::is_regular_file(path, code)) throw UserError(path + " does not exist; check the path");
  std::ifstream file(path, std::ios::binary);
  char begin[8];
  if (!file.read(begin, 8) || std::memcmp(begin, "\x93NUMPY", 6) != 0 || (begin[6] != 1 && begin[6] != 2))
    throw UserError(path + " is no .npy file; write it with prepared_to_npy.py");
  unsigned char length[4] = {0, 0, 0, 0};
  file.read(reinterpret_cast<char*>(length), begin[6] == 1 ? 2 : 4);
  const std::size_t header_bytes = length[0] | length[1] << 8 | length[2] << 16;
  if (!file || length[3] != 0 || header_bytes > 65536) throw UserError(path + " is damaged; write it again");
  std::string header(header_bytes, ' ');
  if (!file.read(header.data(), static_cast<std::streamsize>(header_bytes)))
    throw UserError(path + " is cut short; write it again");
  const bool is_half = header.find("'<f2'") != std::string::npos, is_float = header.find("'<f4'") != std::string::npos;
  if ((!is_half && !is_float) || header.find("'fortran_order': False") == std::string::npos)
    throw UserError(path + " is not of float16 or float32 in C order; write it with prepared_to_npy.py");
  Volume volume{shape_in(header, path), {}, {}};
  const std::size_t count = voxels(volume.shape), bytes = count * (is_half ? 2 : 4);
  if (std::filesystem::file_size(path, code) < bytes || code) throw UserError(path + " is cut short; write it again");
  std::vector<char> raw(bytes);
  if (!file.read(raw.data(), static_cast<std::streamsize>(bytes))) throw UserError(path + " is cut short; write it again");
  volume.values.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (is_half) {
      std::uint16_t half;
      std::memcpy(&half, raw.data() + 2 * i, 2);
      volume.values[i] = from_half(half);
    } else {
      std::memcpy(&volume.values[i], raw.data() + 4 * i, 4);
    }
    if (!std::isfinite(volume.values[i])) throw UserError(path + " holds values that are not finite; write it again");
  }
  return volume;
}

}  // namespace adnext
