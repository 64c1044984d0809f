#include "polimi.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "files.h"

namespace adnext {
namespace {

struct Stage {
  std::int64_t width, kernel, dilation, padding, pool;
};
constexpr Stage kStages[] = {{4, 1, 1, 0, 3}, {32, 3, 2, 0, 3}, {64, 5, 2, 2, 3}, {64, 3, 2, 1, 5}};
constexpr std::int64_t kHidden = 1024, kLast = 512;

std::int64_t voxels_left(std::int64_t size) {
  for (const auto& stage : kStages) {
    const std::int64_t convolved = size + 2 * stage.padding - stage.dilation * (stage.kernel - 1);
    size = (convolved - stage.pool) / 2 + 1;
    if (convolved < stage.pool || convolved < 2)
      throw UserError("the network needs an input of at least 87 voxels per axis; prepare the scans larger");
  }
  return size;
}

}  // namespace

PolimiImpl::PolimiImpl(const Shape& input, std::int64_t classes, std::int64_t expansion) {
  std::int64_t channels = 1, features = 1;
  for (const auto& stage : kStages) {
    const std::int64_t width = stage.width * expansion;
    encoder_->push_back(torch::nn::Conv3d(
        torch::nn::Conv3dOptions(channels, width, stage.kernel).dilation(stage.dilation).padding(stage.padding)));
    encoder_->push_back(torch::nn::InstanceNorm3d(torch::nn::InstanceNorm3dOptions(width)));
    encoder_->push_back(torch::nn::ReLU());
    encoder_->push_back(torch::nn::MaxPool3d(torch::nn::MaxPool3dOptions(stage.pool).stride(2)));
    channels = width;
  }
  encoder_->push_back(torch::nn::Flatten());
  for (const auto size : input) features *= voxels_left(size);
  register_module("encoder", encoder_);
  hidden_ = register_module("hidden", torch::nn::Linear(features * channels, kHidden));
  head_->push_back(torch::nn::ReLU());
  head_->push_back(torch::nn::Linear(kHidden, kLast));
  head_->push_back(torch::nn::ReLU());
  head_->push_back(torch::nn::Linear(kLast, classes));
  register_module("head", head_);
  const torch::NoGradGuard guard;
  for (const auto& module : modules(/*include_self=*/false))
    if (auto* linear = module->as<torch::nn::LinearImpl>()) {
      torch::nn::init::normal_(linear->weight, 0.0, 0.01);
      torch::nn::init::zeros_(linear->bias);
    }
}

torch::Tensor PolimiImpl::forward(torch::Tensor x) {
  return head_->forward(hidden_->forward(encoder_->forward(x)));
}

void read_weights(torch::nn::Module& network, const std::string& path) {
  std::error_code code;
  if (!std::filesystem::is_regular_file(path, code)) throw UserError(path + " does not exist; check the path");
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  c10::impl::GenericDict found(c10::AnyType::get(), c10::AnyType::get());
  try {
    found = torch::pickle_load(bytes).toGenericDict();
    if (found.contains("network_weights")) found = found.at("network_weights").toGenericDict();
  } catch (const std::exception&) {
    throw UserError(path + " is damaged or holds no tensors by name; save a plain dictionary with torch.save");
  }
  const torch::NoGradGuard guard;
  const auto parameters = network.named_parameters();
  if (found.size() != parameters.size())
    throw UserError(path + " holds " + std::to_string(found.size()) + " tensors, and the network has " +
                    std::to_string(parameters.size()) + "; it is of another network");
  for (const auto& parameter : parameters) {
    if (!found.contains(parameter.key())) throw UserError(path + " has no " + parameter.key() + "; it is of another network");
    const auto tensor = found.at(parameter.key());
    if (!tensor.isTensor() || tensor.toTensor().sizes() != parameter.value().sizes())
      throw UserError(path + ": " + parameter.key() + " has another shape; it is of other classes or another input size");
    parameter.value().copy_(tensor.toTensor());
  }
}

// safetensors: the length of a JSON header (8 bytes, little-endian), the header, the numbers. No code is in it.
// Source: https://github.com/huggingface/safetensors, "Format". Names of tensors need no escapes in JSON.
static std::string as_safetensors(const torch::nn::Module& network) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}", numbers;
  for (const auto& parameter : network.named_parameters()) {
    const auto tensor = parameter.value().detach().to(torch::kCPU, torch::kFloat32).contiguous();
    const auto start = numbers.size();
    numbers.append(static_cast<const char*>(tensor.data_ptr()), static_cast<std::size_t>(tensor.nbytes()));
    std::string shape;
    for (const auto size : tensor.sizes()) shape += (shape.empty() ? "" : ",") + std::to_string(size);
    header += ",\"" + parameter.key() + "\":{\"dtype\":\"F32\",\"shape\":[" + shape + "],\"data_offsets\":[" +
              std::to_string(start) + "," + std::to_string(numbers.size()) + "]}";
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');  // the numbers begin at a multiple of 8
  std::string length;
  for (int byte = 0; byte < 8; ++byte) length += static_cast<char>(header.size() >> (8 * byte) & 0xff);
  return length + header + numbers;
}

void write_weights(const torch::nn::Module& network, const std::string& path) {
  write_whole(as_safetensors(network), path, path);
}

}  // namespace adnext
