#include "io/replaced_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace dsft::io {

ReplacedFile::ReplacedFile(std::filesystem::path path)
    : path_(std::move(path)),
      temporary_(path_.string() + ".tmp-" + std::to_string(::getpid())),
      file_(open_for_writing(temporary_, ErrorKind::kData)) {}

ReplacedFile::~ReplacedFile() {
  if (file_.is_open()) ::unlink(temporary_.c_str());
}

void ReplacedFile::write(std::string_view text) {
  write_all(file_.get(), temporary_, text.data(), text.size(), ErrorKind::kData);
}

void ReplacedFile::commit() {
  sync_file(file_.get(), temporary_, ErrorKind::kData);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0)
    fail(ErrorKind::kData, path_.string(), " cannot be written: ", std::strerror(errno));
  file_.close();
  sync_directory(path_.parent_path(), ErrorKind::kData);
}

}  // namespace dsft::io
