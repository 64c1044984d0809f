// Volumes prepared by the Python package, written by prepared_to_npy.py: NumPy's .npy, float16 or float32.
#pragma once

#include <string>

#include "volume.h"

namespace adnext {

// Throws UserError: the file is missing, cut short, of another type, or has more or fewer than three axes.
Volume read_npy(const std::string& path);

// The nearest number that float16 can hold, ties to even, as NumPy rounds.
float rounded_to_half(float value);

}  // namespace adnext
