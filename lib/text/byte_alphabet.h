#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dsft::text {

/// GPT-2's alphabet: each byte as a printable character ("Ġ" is the space), so that vocabularies of bytes can be
/// written as text. Printable bytes stand for themselves, the others for U+0100 onwards in order.
const std::array<std::string, 256>& byte_alphabet();

/// Bytes written in the alphabet.
std::string to_byte_alphabet(std::string_view bytes);

/// The bytes that a token of the alphabet stands for; nullopt if any character is not of the alphabet.
std::optional<std::string> from_byte_alphabet(std::string_view token);

}  // namespace dsft::text
