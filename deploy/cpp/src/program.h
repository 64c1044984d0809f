// What the programs on LibTorch have in common: help, and errors as one line with exit code 2.
#pragma once

#include <c10/util/Exception.h>

#include <iostream>
#include <new>
#include <string>

#include "volume.h"

namespace adnext {

// `run` takes what main takes and returns the exit code; `memory` is said where there is not enough.
template <typename Run>
int as_program(int count, char** arguments, const char* usage, const char* memory, Run run) {
  if (count == 2 && (std::string(arguments[1]) == "--help" || std::string(arguments[1]) == "-h")) {
    std::cout << usage;
    return 0;
  }
  try {
    return run(count, arguments);
  } catch (const UserError& error) {
    std::cerr << "error: " << error.what() << "\n";
  } catch (const c10::Error& error) {
    std::cerr << "error: " << std::string(error.what_without_backtrace()).substr(0, 200) << "\n";
  } catch (const std::bad_alloc&) {
    std::cerr << "error: " << memory << "\n";
  }
  return 2;
}

}  // namespace adnext
