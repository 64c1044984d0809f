// A program of adnext_export at work: AOTInductor's package (.pt2) or TorchScript (.pt).
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "notes.h"

namespace adnext {

class Program {
 public:
  virtual ~Program() = default;
  // What the program gives, in the order of its notes' outputs.
  virtual std::vector<at::Tensor> run(const std::vector<at::Tensor>& inputs) = 0;

  const Notes& notes() const { return notes_; }

 protected:
  Notes notes_;
};

// Throws UserError: the file is missing, damaged, or no program of adnext_export.
std::unique_ptr<Program> open_program(const std::string& path);

}  // namespace adnext
