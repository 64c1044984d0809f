// adnext_predict_cpp: a trained model on scans, without Python.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <map>
#include <sstream>

#include "files.h"
#include "model.h"
#include "nifti.h"
#include "npy.h"
#include "program.h"

namespace {

using adnext::UserError;

constexpr const char* kUsage =
    "usage: adnext_predict_cpp MODEL SCAN... [--covariate NAME=VALUE]... [--threads N] [-o FILE.csv]\n"
    "  MODEL   written by adnext_export --format aoti (.pt2) or torchscript (.pt)\n"
    "  SCAN    brains without skull as NIfTI (.nii, .nii.gz), or prepared volumes (.npy)\n";

struct Options {
  std::string model;
  std::vector<std::string> scans;
  std::map<std::string, double> covariates;
  std::string output;
  int threads = 0;
};

double number_of(const std::string& text, const std::string& what) {
  if (text == "F") return 0.0;
  if (text == "M") return 1.0;
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0') throw UserError(what + " is " + text + ", no number");
  return value;
}

Options options_of(int count, char** arguments) {
  Options options;
  const std::vector<std::string> words(arguments + 1, arguments + count);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const bool takes_value = word == "--covariate" || word == "--threads" || word == "-o" || word == "--output";
    if (takes_value && i + 1 == words.size()) throw UserError(word + " needs a value");
    if (word == "--covariate") {
      const std::string text = words[++i];
      const auto equals = text.find('=');
      if (equals == std::string::npos) throw UserError("--covariate " + text + ": write NAME=VALUE");
      options.covariates[text.substr(0, equals)] = number_of(text.substr(equals + 1), "--covariate " + text);
    } else if (word == "--threads") {
      options.threads = static_cast<int>(number_of(words[++i], word));
      if (options.threads < 1) throw UserError("--threads must be at least 1");
    } else if (word == "-o" || word == "--output") {
      options.output = words[++i];
    } else if (word.starts_with("-")) {
      throw UserError("there is no option " + word + "; options are --covariate, --threads, -o");
    } else if (options.model.empty()) {
      options.model = word;
    } else {
      options.scans.push_back(word);
    }
  }
  if (options.scans.empty()) throw UserError("give a model and at least one scan");
  return options;
}

void require_possible(const adnext::Notes& notes, const Options& options) {
  const bool has_scan = std::any_of(options.scans.begin(), options.scans.end(),
                                    [](const std::string& scan) { return !scan.ends_with(".npy"); });
  if (has_scan && !notes.python_only.empty())
    throw UserError(options.model + " was trained on scans that went through " + notes.python_only.front() +
                    ", which only the Python package does; prepare the scans there and give .npy");
  for (const auto& [name, value] : options.covariates)
    if (std::find(notes.columns.begin(), notes.columns.end(), name) == notes.columns.end())
      throw UserError("--covariate " + name + ": the model takes no such covariate");
  for (const auto& name : notes.columns)
    if (!notes.may_be_unknown && !options.covariates.contains(name))
      throw UserError("the model needs the " + name + " of every person; give --covariate " + name + "=VALUE");
}

at::Tensor covariates_of(const adnext::Notes& notes, const Options& options) {
  const auto tensor = at::empty({1, static_cast<std::int64_t>(notes.columns.size())}, at::kFloat);
  for (std::size_t i = 0; i < notes.columns.size(); ++i) {
    const auto found = options.covariates.find(notes.columns[i]);
    const double unknown = std::numeric_limits<double>::quiet_NaN();
    tensor.data_ptr<float>()[i] = static_cast<float>(found == options.covariates.end() ? unknown : found->second);
  }
  return tensor;
}

adnext::Volume input_of(const std::string& scan, const adnext::Notes& notes) {
  if (!scan.ends_with(".npy")) return adnext::prepared(adnext::read_nifti(scan), notes.plan, scan);
  auto volume = adnext::read_npy(scan);
  if (volume.shape != notes.plan.input_size)
    throw UserError(scan + " has another size than the model's input; prepare it with the model's plan");
  return volume;
}

std::string quoted(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string found = "\"";
  for (const char letter : text) found += letter == '"' ? std::string("\"\"") : std::string(1, letter);
  return found + "\"";
}

std::string text_of(double value) {
  std::stringstream stream;
  stream.precision(9);
  stream << value;
  return stream.str();
}

std::string header_of(const adnext::Notes& notes) {
  std::string line = "file";
  for (const auto& name : notes.classes) line += "," + quoted("prob_" + name);
  if (notes.classes.empty()) line += ",prediction";
  return line + ",spread" + (notes.classes.empty() ? "" : ",called") + "\n";
}

std::string row_of(const std::string& scan, adnext::Program& program, const at::Tensor& covariates) {
  const auto& notes = program.notes();
  auto volume = input_of(scan, notes);
  const auto [z, y, x] = volume.shape;
  std::vector<at::Tensor> inputs{at::from_blob(volume.values.data(), {1, 1, z, y, x}, at::kFloat)};
  if (!notes.columns.empty()) inputs.push_back(covariates);
  const auto outputs = program.run(inputs);
  const auto width = static_cast<std::int64_t>(notes.width());
  if (outputs.size() != notes.outputs.size() || outputs[0].dim() != 2 || outputs[0].size(1) != width ||
      outputs[1].numel() != width)
    throw UserError("the model says that it knows " + std::to_string(width) + " classes, but its answers are others; " +
                    "export the model again");
  const auto answer = outputs[0].to(at::kDouble).contiguous(), spread = outputs[1].to(at::kDouble).contiguous();
  std::string line = quoted(scan);
  for (std::int64_t k = 0; k < width; ++k) {
    if (!std::isfinite(answer.data_ptr<double>()[k])) throw UserError(scan + ": the answer is not finite; is it damaged?");
    line += "," + text_of(answer.data_ptr<double>()[k]);
  }
  line += "," + text_of(spread.data_ptr<double>()[width - 1]);
  if (notes.classes.empty()) return line + "\n";
  const auto called = static_cast<std::size_t>(outputs[3].item<std::int64_t>());
  return line + "," + quoted(notes.classes.at(called)) + "\n";
}

void write(const std::string& text, const std::string& path) {
  if (path.empty())
    std::cout << text;
  else
    adnext::write_whole(text, path, "-o " + path);
}

int run(const Options& options) {
  if (options.threads > 0) at::set_num_threads(options.threads);
  const c10::InferenceMode guard;
  const auto program = adnext::open_program(options.model);
  require_possible(program->notes(), options);
  for (const auto& stamp : program->notes().stamps) std::cerr << stamp << "\n";
  const auto covariates = covariates_of(program->notes(), options);
  std::string text = header_of(program->notes());
  int failed = 0;
  for (const auto& scan : options.scans) {
    try {
      text += row_of(scan, *program, covariates);
    } catch (const UserError& error) {
      std::cerr << "error: " << error.what() << "\n";
      ++failed;
    }
  }
  if (failed < static_cast<int>(options.scans.size())) write(text, options.output);
  return failed ? 2 : 0;
}

}  // namespace

int main(int count, char** arguments) {
  return adnext::as_program(count, arguments, kUsage, "there is not enough memory",
                            [](int words, char** given) { return run(options_of(words, given)); });
}
