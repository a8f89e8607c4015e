#include "text/byte_alphabet.h"

#include "text/utf8.h"

namespace dsft::text {
namespace {

constexpr uint32_t kEnd = 0x144;  // one past the alphabet's last code point

struct Alphabet {
  std::array<std::string, 256> characters;
  std::array<int16_t, kEnd> bytes;  // by code point; -1: not of the alphabet

  Alphabet() {
    bytes.fill(-1);
    uint32_t next = 0x100;
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const bool is_printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      const uint32_t code = is_printable ? byte : next++;
      append_utf8(characters[byte], code);
      bytes[code] = static_cast<int16_t>(byte);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

const std::array<std::string, 256>& byte_alphabet() {
  return alphabet().characters;
}

std::string to_byte_alphabet(std::string_view bytes) {
  std::string out;
  for (char c : bytes) out += alphabet().characters[static_cast<unsigned char>(c)];
  return out;
}

std::optional<std::string> from_byte_alphabet(std::string_view token) {
  std::string out;
  for (size_t i = 0; i < token.size();) {
    const CodePoint c = decode_valid_utf8(token.data() + i);
    if (c.value >= kEnd || alphabet().bytes[c.value] < 0) return std::nullopt;
    out.push_back(static_cast<char>(alphabet().bytes[c.value]));
    i += c.size;
  }
  return out;
}

}  // namespace dsft::text
