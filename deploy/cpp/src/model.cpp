#include "model.h"

#include <c10/util/Exception.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/script.h>

#include <filesystem>
#include <unordered_map>

namespace adnext {
namespace {

constexpr const char* kKey = "adnext_plain";

class Package : public Program {
 public:
  explicit Package(const std::string& path) : loader_(path) {
    auto metadata = loader_.get_metadata();
    notes_ = notes_of(metadata[kKey], path);
  }
  std::vector<at::Tensor> run(const std::vector<at::Tensor>& inputs) override { return loader_.run(inputs); }

 private:
  torch::inductor::AOTIModelPackageLoader loader_;
};

class Script : public Program {
 public:
  explicit Script(const std::string& path) {
    std::unordered_map<std::string, std::string> texts{{kKey, ""}};
    module_ = torch::jit::load(path, at::kCPU, texts);
    notes_ = notes_of(texts[kKey], path);
  }
  std::vector<at::Tensor> run(const std::vector<at::Tensor>& inputs) override {
    const auto found = module_.forward(std::vector<c10::IValue>(inputs.begin(), inputs.end())).toTuple();
    std::vector<at::Tensor> outputs;
    for (const auto& element : found->elements()) outputs.push_back(element.toTensor());
    return outputs;
  }

 private:
  torch::jit::Module module_;
};

std::string first_line(const std::string& text) { return text.substr(0, std::min<std::size_t>(text.find('\n'), 200)); }

}  // namespace

std::unique_ptr<Program> open_program(const std::string& path) {
  std::error_code code;
  if (!std::filesystem::is_regular_file(path, code)) throw UserError(path + " does not exist; check the path");
  try {
    if (path.ends_with(".pt2")) return std::make_unique<Package>(path);
    if (path.ends_with(".pt")) return std::make_unique<Script>(path);
  } catch (const c10::Error& error) {
    throw UserError(path + " cannot be opened (" + first_line(error.what_without_backtrace()) +
                    "); it is damaged or no program, export the model again");
  } catch (const UserError&) {
    throw;
  } catch (const std::exception& error) {
    throw UserError(path + " cannot be opened (" + first_line(error.what()) +
                    "); it is damaged or no program, export the model again");
  }
  throw UserError(path + " is no program for here: write one with adnext_export --format aoti (.pt2) or torchscript (.pt)");
}

}  // namespace adnext
