// The wide and shallow network of the Politecnico di Milano: adnext_plugin/networks/families/liu.py in C++.
// Source: Liu et al. 2022; Cozzoli, Crippa and Taddei 2025.
#pragma once

#include <torch/torch.h>

#include <string>

#include "volume.h"

namespace adnext {

// Scan (B, 1, Z, Y, X) to logits (B, classes). Tensors bear the names that the Python network gives them.
struct PolimiImpl : torch::nn::Module {
  // `expansion` scales the widths, 8 in the paper. Throws UserError: the input is too small.
  PolimiImpl(const Shape& input, std::int64_t classes, std::int64_t expansion);
  torch::Tensor forward(torch::Tensor x);

 private:
  torch::nn::Sequential encoder_, head_;
  torch::nn::Linear hidden_{nullptr};
};
TORCH_MODULE(Polimi);

// Weights as torch.save writes a dictionary of them, perhaps under "network_weights".
// Throws UserError: the file is damaged, or of another network or number of classes.
void read_weights(torch::nn::Module& network, const std::string& path);
// Weights as safetensors, which the package reads. Throws UserError: the disk is full, or there is no such folder.
void write_weights(const torch::nn::Module& network, const std::string& path);

}  // namespace adnext
