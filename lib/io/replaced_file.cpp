#include "io/replaced_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace dsft::io {

ReplacedFile::ReplacedFile(const std::filesystem::path& path)
    : target_(resolve_output(path, ErrorKind::kData)), written_(target_.path) {
  if (!target_.is_replaced) {
    file_ = open_in_place(target_, ErrorKind::kData);
    return;
  }
  written_ += ".tmp-" + std::to_string(::getpid());
  file_ = open_for_writing(written_, ErrorKind::kData);
}

ReplacedFile::~ReplacedFile() {
  if (file_.is_open() && target_.is_replaced) ::unlink(written_.c_str());
}

void ReplacedFile::write(std::string_view text) {
  write_all(file_.get(), written_, text.data(), text.size(), ErrorKind::kData);
}

void ReplacedFile::commit() {
  if (target_.is_replaced) {
    sync_file(file_.get(), written_, ErrorKind::kData);
    if (::rename(written_.c_str(), target_.path.c_str()) != 0)
      fail(ErrorKind::kData, target_.path.string(), " cannot be written: ", std::strerror(errno));
  }
  file_.close();
  if (target_.is_replaced) sync_directory(target_.path.parent_path(), ErrorKind::kData);
}

}  // namespace dsft::io
