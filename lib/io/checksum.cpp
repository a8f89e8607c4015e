#include "io/checksum.h"

#include <xxhash.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "io/file.h"

namespace dsft::io {

Xxh64::Xxh64() : state_(XXH64_createState()) {
  XXH64_reset(static_cast<XXH64_state_t*>(state_), 0);
}

Xxh64::~Xxh64() {
  XXH64_freeState(static_cast<XXH64_state_t*>(state_));
}

void Xxh64::update(const void* data, uint64_t size) {
  XXH64_update(static_cast<XXH64_state_t*>(state_), data, size);
}

uint64_t Xxh64::digest() const {
  return XXH64_digest(static_cast<const XXH64_state_t*>(state_));
}

uint64_t xxh64(std::string_view bytes) {
  return XXH64(bytes.data(), bytes.size(), 0);
}

uint64_t xxh3(std::string_view bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

uint64_t xxh64_of_file(const std::filesystem::path& path) {
  const FileDescriptor file = open_for_reading(path);
  const uint64_t size = file_size(file, path);
  std::vector<char> buffer(std::min<uint64_t>(size, 4 << 20));
  Xxh64 hash;
  for (uint64_t offset = 0; offset < size; offset += buffer.size()) {
    const uint64_t count = std::min<uint64_t>(buffer.size(), size - offset);
    read_exactly(file.get(), path, offset, count, buffer.data());
    hash.update(buffer.data(), count);
  }
  return hash.digest();
}

std::string to_hex(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace dsft::io
