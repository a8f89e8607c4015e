#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "text/white_space.h"

namespace dsft::evaluate {

using text::stripped;

/// The text of a message: its content, or the text parts of a content that is a list; "" where it has none.
std::string text_of_message(const nlohmann::ordered_json& message);

/// Whether a generated answer makes the calls that a message of the data makes: the same functions in the same order
/// with arguments that are equal as JSON (order of keys and spaces do not matter, 1 equals 1.0). Where the message
/// makes none, whether the answer makes none.
bool makes_same_calls(std::string_view answer, const nlohmann::ordered_json& message);

}  // namespace dsft::evaluate
