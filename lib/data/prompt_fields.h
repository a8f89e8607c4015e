#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>

#include "data/row_format.h"

namespace dsft::data {

/// Reads a row of any format as what is asked by it: as read_row does, but that an answer may be missing (a prompt
/// without a completion, an instruction without an output). Throws kData where nothing is asked.
RowContent read_question(nlohmann::ordered_json row);

/// Throws kData for a row that is no conversation: it has no place for a system message.
void require_conversation(const RowContent& question);

/// Messages of a conversation before the answer that it ends with: all but a last one of the assistant.
size_t count_asked(const Conversation& question);

/// The answer that a row has, {role, content, ...}: the message of the assistant that it ends with, or its completion.
/// Null where it has none.
nlohmann::ordered_json given_answer(const RowContent& question);

/// What rewards are told of a row: its fields but those that prompts are made of, and where none of them is called
/// "completion" the answer that it has (given_answer) under that name.
nlohmann::ordered_json columns_of(nlohmann::ordered_json row, const nlohmann::ordered_json& answer);

}  // namespace dsft::data
