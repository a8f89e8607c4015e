#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "rewards/built_in_config.h"

namespace dsft::rewards {

/// What a text gives as its answer: what the last complete \boxed{} holds; else the last <answer>...</answer>; else the
/// rest of the line behind the last ####. Nothing where no such mark is there.
std::optional<std::string> find_marked_answer(std::string_view text);

/// What a completion says where no right answer is at hand: its marked answer, or else its last number, in one
/// spelling. Nothing where it has neither.
std::optional<std::string> find_math_answer(std::string_view completion);

/// Whether two such answers are the same: by the rule of score_math_answer, either of them the right one.
bool are_same_math_answer(const std::string& a, const std::string& b, double tolerance);

/// Compares the answer of a completion (marked, or else its last number) with the right one of the row (which may hold
/// a mark too, as GSM8K's do). Numbers are equal within `tolerance`, whole ones of more than 15 digits digit by digit;
/// 50% equals 50 and 0.5. What is no number is compared as text without regard to spaces and case. Gives 1 or 0, and
/// with `partial` for two numbers max(0, 1 - |p - g| / |g|), of
/// 50% by the nearer of the two.
double score_math_answer(std::string_view completion, std::string_view right_answer, const MathAnswerConfig& config);

}  // namespace dsft::rewards
