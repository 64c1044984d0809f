#include "notes.h"

#include <cstdlib>
#include <sstream>

namespace adnext {
namespace {

constexpr const char* kVersion = "1";

using Lines = std::map<std::string, std::vector<std::string>>;

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  std::string cell;
  std::stringstream stream(line);
  while (std::getline(stream, cell, '\t')) cells.push_back(cell);
  return cells;
}

class Reader {
 public:
  Reader(const std::string& text, const std::string& path) : path_(path) {
    std::stringstream stream(text);
    for (std::string line; std::getline(stream, line);) {
      auto cells = cells_of(line);
      if (cells.empty()) continue;
      const std::string name = cells.front();
      cells.erase(cells.begin());
      lines_[name] = cells;
    }
  }
  const std::vector<std::string>& all(const std::string& name) const {
    const auto found = lines_.find(name);
    if (found == lines_.end())
      throw UserError(path_ + " was not written by adnext_export (it does not say " + name + "); export the model again");
    return found->second;
  }
  std::string one(const std::string& name) const {
    if (all(name).size() != 1) throw UserError(path_ + " does not say one " + name + "; export the model again");
    return all(name).front();
  }
  std::vector<double> numbers(const std::string& name, std::size_t count) const {
    std::vector<double> found;
    for (const auto& cell : all(name)) {
      char* end = nullptr;
      found.push_back(std::strtod(cell.c_str(), &end));
      if (end == cell.c_str() || *end != '\0') throw UserError(path_ + ": " + name + " is " + cell + ", no number");
    }
    if (found.size() != count) throw UserError(path_ + " does not say " + name + "; export the model again");
    return found;
  }

 private:
  std::string path_;
  Lines lines_;
};

Plan plan_of(const Reader& reader, const std::string& path) {
  Plan plan;
  const auto spacing = reader.numbers("spacing_zyx_mm", 3), size = reader.numbers("input_size_zyx", 3);
  for (int axis = 0; axis < 3; ++axis) {
    plan.spacing_mm[axis] = spacing[axis];
    plan.input_size[axis] = static_cast<std::int64_t>(size[axis]);
    if (!(spacing[axis] > 0.01 && spacing[axis] < 100) || plan.input_size[axis] < 1 || plan.input_size[axis] > 1024)
      throw UserError(path + " asks for an impossible grid; export the model again");
  }
  plan.resize = reader.one("fit") == "resize";
  plan.cubic = reader.one("interpolation") == "cubic";
  plan.clip_percentiles.reset();
  if (!reader.all("clip_percentiles").empty()) {
    const auto clip = reader.numbers("clip_percentiles", 2);
    if (!(clip[0] >= 0 && clip[0] < clip[1] && clip[1] <= 100))
      throw UserError(path + " clips to impossible percentiles; export the model again");
    plan.clip_percentiles = {clip[0], clip[1]};
  }
  return plan;
}

}  // namespace

Notes notes_of(const std::string& text, const std::string& path) {
  const Reader reader(text, path);
  const std::string version = reader.one("format_version");
  if (version != kVersion)
    throw UserError(path + " is of format version " + version + ", and this program reads " + kVersion +
                    "; export the model again");
  Notes notes;
  notes.kind = reader.one("kind");
  notes.target = reader.one("target");
  notes.classes = reader.all("classes");
  notes.folds = reader.all("folds");
  notes.columns = reader.all("columns");
  notes.inputs = reader.all("inputs");
  notes.outputs = reader.all("outputs");
  notes.stamps = reader.all("stamps");
  notes.may_be_unknown = reader.one("may_be_unknown") == "1";
  notes.python_only = reader.all("python_only");
  notes.plan = plan_of(reader, path);
  if (notes.kind != "regression" && notes.classes.size() < 2)
    throw UserError(path + " names fewer than two classes; export the model again");
  return notes;
}

}  // namespace adnext
