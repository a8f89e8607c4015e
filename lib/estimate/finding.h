#pragma once

#include <string>

namespace dsft::estimate {

/// What a change would give: shorter steps, or more to learn from what is sampled (GRPO).
enum class Aim { kSpeed, kLearning };

/// Something that made a run slower than it had to be, or let it learn less.
struct Finding {
  std::string sentence;
  double seconds = 0;  ///< of a step, at most what it costs; 0: not known
  Aim aim = Aim::kSpeed;
};

/// Of a step: below this share nothing is worth a word.
inline constexpr double kWorthSaying = 0.05;

}  // namespace dsft::estimate
