// What a program of adnext_export says of itself: its metadata as lines "name<TAB>value<TAB>value...".
#pragma once

#include <map>
#include <string>
#include <vector>

#include "preparation.h"

namespace adnext {

struct Notes {
  std::string kind;  // classification or regression
  std::string target;
  std::vector<std::string> classes, folds, columns, inputs, outputs, stamps;
  bool may_be_unknown = false;
  std::vector<std::string> python_only;  // steps that nothing but the Python package can take
  Plan plan;

  // How many numbers an answer has.
  std::size_t width() const { return kind == "regression" ? 1 : classes.size(); }
};

// Throws UserError: the text is not of this version, or a value is missing.
Notes notes_of(const std::string& text, const std::string& path);

}  // namespace adnext
