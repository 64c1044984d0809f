// adnext_fuzz FILE...: reads and prepares damaged files; each must be read or refused in one line, and none must crash.
#include <exception>
#include <iostream>
#include <string>

#include "nifti.h"
#include "npy.h"
#include "preparation.h"

int main(int count, char** arguments) {
  int refused = 0;
  adnext::Plan plan;
  plan.input_size = {24, 24, 24};
  for (int i = 1; i < count; ++i) {
    const std::string path = arguments[i];
    try {
      if (path.ends_with(".npy")) {
        adnext::read_npy(path);
      } else {
        plan.cubic = i % 2;
        plan.resize = i % 3 == 0;
        adnext::prepared(adnext::read_nifti(path), plan, path);
      }
    } catch (const adnext::UserError& error) {
      ++refused;
      if (std::string(error.what()).find('\n') != std::string::npos) {
        std::cerr << "more than one line about " << path << "\n";
        return 1;
      }
    } catch (const std::bad_alloc&) {
      std::cerr << "no memory for " << path << "\n";
      return 1;
    }
  }
  std::cout << count - 1 << " files, " << refused << " refused\n";
}
