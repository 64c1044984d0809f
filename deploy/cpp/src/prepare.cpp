// adnext_prepare_cpp PLAN SCAN OUT.npy: prepares one scan as predicting does, so that the two packages can be compared.
// PLAN is a text file with the lines that a program's metadata have.
#include <fstream>
#include <iostream>
#include <sstream>

#include "nifti.h"
#include "notes.h"

int main(int count, char** arguments) {
  if (count != 4) {
    std::cerr << "usage: adnext_prepare_cpp PLAN.txt SCAN.nii.gz OUT.npy\n";
    return 2;
  }
  try {
    std::ifstream plan(arguments[1]);
    std::stringstream text;
    text << plan.rdbuf();
    const auto notes = adnext::notes_of(text.str(), arguments[1]);
    const auto volume = adnext::prepared(adnext::read_nifti(arguments[2]), notes.plan, arguments[2]);
    std::stringstream shape;
    shape << "{'descr': '<f4', 'fortran_order': False, 'shape': (" << volume.shape[0] << ", " << volume.shape[1] << ", "
          << volume.shape[2] << "), }";
    std::string header = shape.str();
    header.resize(128 - 10 - 1, ' ');
    header += '\n';
    std::ofstream out(arguments[3], std::ios::binary);
    const unsigned char length[2] = {static_cast<unsigned char>(header.size()), 0};
    out.write("\x93NUMPY\x01\x00", 8).write(reinterpret_cast<const char*>(length), 2);
    out.write(header.data(), static_cast<std::streamsize>(header.size()));
    out.write(reinterpret_cast<const char*>(volume.values.data()), static_cast<std::streamsize>(4 * volume.values.size()));
    if (!out.flush()) throw adnext::UserError(std::string(arguments[3]) + " cannot be written; is the disk full?");
  } catch (const adnext::UserError& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
}
