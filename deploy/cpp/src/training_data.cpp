#include "training_data.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "npy.h"

namespace adnext {
namespace {

std::vector<std::string> cells_of(std::string line) {
  if (!line.empty() && line.back() == '\r') line.pop_back();
  std::vector<std::string> cells;
  std::stringstream stream(line);
  for (std::string cell; std::getline(stream, cell, ',');) cells.push_back(cell);
  return cells;
}

std::size_t column_of(const std::vector<std::string>& header, const std::string& name, const std::string& path) {
  const auto found = std::find(header.begin(), header.end(), name);
  if (found == header.end()) throw UserError(path + " has no column " + name + "; columns are file, class and part");
  return static_cast<std::size_t>(found - header.begin());
}

// Smooths (1, 1, Z, Y, X) along each axis by a Gaussian cut off at two standard deviations
torch::Tensor blurred(torch::Tensor image, double sigma) {
  const auto radius = static_cast<std::int64_t>(std::ceil(2 * sigma));
  if (radius == 0) return image;
  const auto places = torch::arange(-radius, radius + 1, torch::kFloat);
  auto kernel = torch::exp(-0.5 * (places / sigma).square());
  kernel = kernel / kernel.sum();
  for (int axis = 0; axis < 3; ++axis) {
    std::vector<std::int64_t> shape{1, 1, 1, 1, 1}, padding{0, 0, 0};
    shape[2 + axis] = 2 * radius + 1;
    padding[axis] = radius;
    image = torch::conv3d(image, kernel.view(shape), {}, 1, padding);
  }
  return image;
}

torch::Tensor image_of(const Case& one, const Augmentation& augmentation, std::mt19937_64& random) {
  auto volume = read_npy(one.file);
  auto image = torch::from_blob(volume.values.data(), {1, 1, volume.shape[0], volume.shape[1], volume.shape[2]}).clone();
  if (augmentation.is_on && std::bernoulli_distribution(0.5)(random))
    image = blurred(image, std::uniform_real_distribution<double>(0.0, augmentation.blur_sigma)(random));
  for (int axis = 0; axis < 3; ++axis) {
    const std::int64_t size = volume.shape[axis], length = std::min(size, augmentation.crop), room = size - length;
    const std::int64_t start =
        augmentation.is_on ? std::uniform_int_distribution<std::int64_t>(0, room)(random) : size / 2 - length / 2;
    image = image.narrow(2 + axis, start, length);
  }
  return image;
}

}  // namespace

Cohort read_table(const std::string& path, const std::vector<std::string>& classes) {
  std::ifstream file(path);
  std::string line;
  if (!file || !std::getline(file, line)) throw UserError(path + " does not exist or is empty; give a CSV table");
  const auto header = cells_of(line);
  const auto file_at = column_of(header, "file", path), class_at = column_of(header, "class", path),
             part_at = column_of(header, "part", path);
  if (classes.size() < 2 || std::set<std::string>(classes.begin(), classes.end()).size() < classes.size())
    throw UserError("--classes needs at least two different classes, e.g. CN,AD");
  Cohort cohort{classes, {}, {}};
  for (int number = 2; std::getline(file, line); ++number) {
    const auto cells = cells_of(line);
    if (cells.empty()) continue;
    const std::string where = path + ", line " + std::to_string(number);
    if (cells.size() != header.size()) throw UserError(where + " has " + std::to_string(cells.size()) + " cells; mend it");
    const auto found = std::find(classes.begin(), classes.end(), cells[class_at]);
    if (found == classes.end())
      throw UserError(where + ": class " + cells[class_at] + " is not among --classes; name all classes");
    const auto scan = (std::filesystem::path(path).parent_path() / cells[file_at]).string();
    const Case one{scan, found - classes.begin()};
    if (cells[part_at] == "train") cohort.train.push_back(one);
    else if (cells[part_at] == "validation") cohort.validation.push_back(one);
    else throw UserError(where + ": part is " + cells[part_at] + ", neither train nor validation");
  }
  if (cohort.train.empty() || cohort.validation.empty())
    throw UserError(path + " needs rows of both parts, train and validation");
  return cohort;
}

Batch batch_of(const std::vector<Case>& cases, const Augmentation& augmentation, std::mt19937_64& random) {
  std::vector<torch::Tensor> images;
  std::vector<std::int64_t> labels;
  for (const auto& one : cases) {
    images.push_back(image_of(one, augmentation, random));
    labels.push_back(one.label);
    if (images.back().sizes() != images.front().sizes())
      throw UserError(one.file + " has another size than the others; prepare all with one plan");
  }
  return {torch::cat(images), torch::tensor(labels, torch::kLong)};
}

Shape input_shape(const Case& one, const Augmentation& augmentation) {
  Shape shape = read_npy(one.file).shape;
  for (auto& size : shape) size = std::min(size, augmentation.crop);
  return shape;
}

}  // namespace adnext
