// NIfTI-1 in one file, plain or compressed, refused and read as the Python package refuses and reads it (nibabel).
//
// Debian's libnifti turns NaN into 0 without a word and takes what a header claims; a scan that Python refuses would be
// predicted here. So the 348 bytes of the header are read by ourselves, and zlib does the rest.
#pragma once

#include <string>

#include "volume.h"

namespace adnext {

// Throws UserError: the file is missing, cut short, damaged, not 3D, not of real numbers, or no head by its header.
Volume read_nifti(const std::string& path);

}  // namespace adnext
