#include "files.h"

#include <filesystem>
#include <fstream>

#include "volume.h"

namespace adnext {

void write_whole(const std::string& bytes, const std::string& path, const std::string& name) {
  const std::string temporary = path + ".partial";
  std::ofstream file(temporary, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  std::error_code code;
  if (file) std::filesystem::rename(temporary, path, code);
  if (!file || code) {
    std::filesystem::remove(temporary, code);
    throw UserError(name + " cannot be written; is there such a folder, and room on the disk?");
  }
}

}  // namespace adnext
