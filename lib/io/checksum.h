#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace dsft::io {

/// A 64-bit xxHash (XXH64, seed 0) taken piece by piece.
class Xxh64 {
 public:
  Xxh64();
  ~Xxh64();
  Xxh64(const Xxh64&) = delete;
  Xxh64& operator=(const Xxh64&) = delete;

  void update(const void* data, uint64_t size);
  uint64_t digest() const;

 private:
  void* state_;
};

/// XXH64 of bytes.
uint64_t xxh64(std::string_view bytes);

/// XXH3 (64 bits) of bytes: the fast one, for keys of caches.
uint64_t xxh3(std::string_view bytes);

/// XXH64 of a file's contents, read in pieces.
uint64_t xxh64_of_file(const std::filesystem::path& path);

/// Sixteen hexadecimal digits.
std::string to_hex(uint64_t value);

}  // namespace dsft::io
