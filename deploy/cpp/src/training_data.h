// Prepared volumes, their classes and what is done to them while a network is trained.
#pragma once

#include <torch/torch.h>

#include <random>
#include <string>
#include <vector>

#include "volume.h"

namespace adnext {

struct Case {
  std::string file;
  std::int64_t label;
};

struct Cohort {
  std::vector<std::string> classes;
  std::vector<Case> train, validation;
};

// A table with the columns file, class and part (train or validation); files are relative to the table.
// Throws UserError: the table is damaged, a class is not among `classes`, a part is empty.
Cohort read_table(const std::string& path, const std::vector<std::string>& classes);

struct Augmentation {
  std::int64_t crop = 96;    // edge of the cube; smaller axes are taken whole
  double blur_sigma = 1.5;   // at most, voxels; with probability 0.5
  bool is_on = true;         // else the middle is cut and nothing is blurred
};

// A batch (B, 1, Z, Y, X) and its labels (B).
struct Batch {
  torch::Tensor images, labels;
};
Batch batch_of(const std::vector<Case>& cases, const Augmentation& augmentation, std::mt19937_64& random);

// The shape of what `batch_of` gives of a case.
Shape input_shape(const Case& one, const Augmentation& augmentation);

}  // namespace adnext
