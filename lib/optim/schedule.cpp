#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace dsft::optim {
namespace {

constexpr double kPolynomialEnd = 1e-7;
constexpr int64_t kInverseSqrtTimescale = 10'000;
constexpr double kOneCycleLowBeta1 = 0.8, kOneCycleHighBeta1 = 0.9;

double ratio(int64_t part, int64_t whole) {
  return static_cast<double>(part) / static_cast<double>(std::max<int64_t>(1, whole));
}

double wave(double cycles, double progress) {
  return 0.5 * (1.0 + std::cos(std::numbers::pi * cycles * 2.0 * progress));
}

/// Share of the steps after warm-up that are done.
double progress_after_warmup(const Schedule& schedule, int64_t step) {
  return ratio(step - schedule.warmup_steps, schedule.total_steps - schedule.warmup_steps);
}

/// The final rate of the *_with_min_lr schedules as a share of the peak.
double min_lr_share(const Schedule& schedule) {
  if (schedule.kwargs.min_lr_rate) return *schedule.kwargs.min_lr_rate;
  return schedule.kwargs.min_lr.value_or(0) / schedule.learning_rate;
}

double cosine_with_restarts(const Schedule& schedule, int64_t step) {
  const double progress = progress_after_warmup(schedule, step);
  if (progress >= 1.0) return 0.0;
  const double phase = std::fmod(schedule.kwargs.num_cycles.value_or(1) * progress, 1.0);
  return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * phase)));
}

double polynomial(const Schedule& schedule, int64_t step) {
  const double end = schedule.kwargs.lr_end.value_or(kPolynomialEnd), peak = schedule.learning_rate;
  if (step > schedule.total_steps) return end / peak;
  const double remaining = 1.0 - progress_after_warmup(schedule, step);
  return ((peak - end) * std::pow(remaining, schedule.kwargs.power.value_or(1)) + end) / peak;
}

double inverse_sqrt(const Schedule& schedule, int64_t step) {
  const int64_t fallback = schedule.warmup_steps > 0 ? schedule.warmup_steps : kInverseSqrtTimescale;
  const int64_t timescale = schedule.kwargs.timescale.value_or(fallback);
  return 1.0 /
         std::sqrt(static_cast<double>(step + timescale - schedule.warmup_steps) / static_cast<double>(timescale));
}

double cosine_to(double floor, const Schedule& schedule, double progress) {
  const double factor = wave(schedule.kwargs.num_cycles.value_or(0.5), progress);
  return std::max(0.0, factor * (1.0 - floor) + floor);
}

// Starts above 0 and counts one step ahead, unlike the others.
double cosine_warmup_with_min_lr(const Schedule& schedule, int64_t step) {
  if (step < schedule.warmup_steps) {
    if (!schedule.kwargs.warmup_lr_rate) return ratio(step + 1, schedule.warmup_steps);
    const double first = *schedule.kwargs.warmup_lr_rate;
    return first + (1.0 - first) * ratio(step, schedule.warmup_steps - 1);
  }
  return cosine_to(min_lr_share(schedule), schedule, progress_after_warmup(schedule, step + 1));
}

/// From 0 to 1.
double ramp_up(RampType type, double progress) {
  switch (type) {
    case RampType::kLinear:
      return progress;
    case RampType::kCosine:
      return 0.5 * (1.0 - std::cos(std::numbers::pi * progress));
    case RampType::kOneMinusSqrt:
      return 1.0 - std::sqrt(1.0 - progress);
    case RampType::kLog:  // DeepSpeed's, see warmup_share
      break;
  }
  return 1.0;
}

/// From 1 to 0.
double ramp_down(RampType type, double progress, double cycles) {
  switch (type) {
    case RampType::kLinear:
      return 1.0 - progress;
    case RampType::kCosine:
      return wave(cycles, progress);
    case RampType::kOneMinusSqrt:
      return 1.0 - std::sqrt(progress);
    case RampType::kLog:
      break;
  }
  return 0.0;
}

double warmup_stable_decay(const Schedule& schedule, int64_t step) {
  const SchedulerKwargs& kwargs = schedule.kwargs;
  const double floor = kwargs.min_lr_ratio.value_or(0);
  const int64_t num_decay = kwargs.num_decay_steps.value_or(0);
  const int64_t num_stable = kwargs.num_stable_steps.value_or(schedule.total_steps - schedule.warmup_steps - num_decay);
  const auto above_floor = [floor](double factor) { return std::max(0.0, factor * (1.0 - floor) + floor); };
  if (step < schedule.warmup_steps) {
    return above_floor(ramp_up(kwargs.warmup_type.value_or(RampType::kLinear), ratio(step, schedule.warmup_steps)));
  }
  const int64_t decayed = step - schedule.warmup_steps - num_stable;
  if (decayed < 0) return 1.0;
  if (decayed >= num_decay) return floor;
  return above_floor(ramp_down(kwargs.decay_type.value_or(RampType::kCosine), ratio(decayed, num_decay),
                               kwargs.num_cycles.value_or(0.5)));
}

double factor(const Schedule& schedule, int64_t step) {
  if (schedule.type == SchedulerType::kConstant) return 1.0;
  if (schedule.type == SchedulerType::kCosineWarmupWithMinLr) return cosine_warmup_with_min_lr(schedule, step);
  if (schedule.type == SchedulerType::kWarmupStableDecay) return warmup_stable_decay(schedule, step);
  if (step < schedule.warmup_steps) return ratio(step, schedule.warmup_steps);
  switch (schedule.type) {
    case SchedulerType::kLinear:
      return std::max(0.0, ratio(schedule.total_steps - step, schedule.total_steps - schedule.warmup_steps));
    case SchedulerType::kCosine:
      return cosine_to(0.0, schedule, progress_after_warmup(schedule, step));
    case SchedulerType::kCosineWithMinLr:
      return cosine_to(min_lr_share(schedule), schedule, progress_after_warmup(schedule, step));
    case SchedulerType::kCosineWithRestarts:
      return cosine_with_restarts(schedule, step);
    case SchedulerType::kPolynomial:
      return polynomial(schedule, step);
    case SchedulerType::kInverseSqrt:
      return inverse_sqrt(schedule, step);
    default:
      return 1.0;
  }
}

/// DeepSpeed's schedulers count from -1 and are stepped after an update: `iteration` of the update that follows `step`
/// others is step - 1, and so the second update has the rate of the first one.
double warmup_share(const Schedule& schedule, int64_t iteration, int64_t num_steps) {
  if (schedule.kwargs.warmup_type.value_or(RampType::kLog) == RampType::kLinear) return ratio(iteration, num_steps);
  return 1.0 / std::log(static_cast<double>(num_steps)) * std::log(static_cast<double>(iteration + 1));
}

double deepspeed_warmup(const Schedule& schedule, int64_t step) {
  const SchedulerKwargs& kwargs = schedule.kwargs;
  const int64_t iteration = step - 1, num_warmup = std::max<int64_t>(2, schedule.warmup_steps);
  const int64_t total = kwargs.total_num_steps.value_or(schedule.total_steps);
  const bool is_warm = iteration >= num_warmup;
  if (schedule.type == SchedulerType::kWarmupCosineLr) {
    if (iteration < 0) return 0.0;
    if (!is_warm) {
      const double first = kwargs.warmup_min_ratio.value_or(0);
      return schedule.learning_rate * (first + warmup_share(schedule, iteration, num_warmup) * (1.0 - first));
    }
    const double progress = std::min(1.0, ratio(iteration - num_warmup + 1, total - num_warmup));
    const double floor = kwargs.cos_min_ratio.value_or(1e-4);
    return schedule.learning_rate * std::max(0.0, floor + (1.0 - floor) * wave(0.5, progress));
  }
  const double first = kwargs.warmup_min_lr.value_or(0);
  if (iteration < 0) return first;
  double share = 1.0;
  if (!is_warm) {
    share = warmup_share(schedule, iteration, num_warmup);
  } else if (schedule.type == SchedulerType::kWarmupDecayLr) {
    share = std::max(0.0, ratio(total - iteration, total - num_warmup));
  }
  return first + (schedule.learning_rate - first) * share;
}

/// How far OneCycle has risen from the lower rate to the upper one: `step` updates into its cycles.
double one_cycle_height(const SchedulerKwargs& kwargs, double step) {
  const auto first = static_cast<double>(kwargs.cycle_first_step_size.value_or(2000));
  const double second = kwargs.cycle_second_step_size ? static_cast<double>(*kwargs.cycle_second_step_size) : first;
  const double size = first + second, peak = first / size;
  const double position = 1.0 + step / size - std::floor(1.0 + step / size);
  const int64_t first_stairs = kwargs.cycle_first_stair_count.value_or(0);
  const int64_t num_stairs = position <= peak ? first_stairs : kwargs.cycle_second_stair_count.value_or(first_stairs);
  if (num_stairs == 0) return position <= peak ? position / peak : (position - 1.0) / (peak - 1.0);
  const double in_cycle = std::fmod(step, size), stairs = static_cast<double>(num_stairs);
  const double stair = in_cycle <= first ? in_cycle * stairs / first : (size - in_cycle) * stairs / second;
  return std::floor(stair) / stairs;
}

/// Updates after OneCycle's cycle; 0 or less within it.
int64_t steps_after_cycle(const SchedulerKwargs& kwargs, int64_t step) {
  const int64_t first = kwargs.cycle_first_step_size.value_or(2000);
  return step - (first + kwargs.cycle_second_step_size.value_or(first));
}

/// By what the decay after OneCycle's cycle divides the rate, or multiplies beta1.
double decay_factor(const SchedulerKwargs& kwargs, double decay_rate, int64_t step) {
  const int64_t interval = kwargs.decay_step_size.value_or(0);
  if (interval == 0) return 1.0;
  return 1.0 + decay_rate * (static_cast<double>(steps_after_cycle(kwargs, step)) / static_cast<double>(interval));
}

double one_cycle(const Schedule& schedule, int64_t step) {
  const SchedulerKwargs& kwargs = schedule.kwargs;
  const double low = kwargs.cycle_min_lr.value_or(0), high = kwargs.cycle_max_lr.value_or(0);
  if (step == 0) return low;
  if (steps_after_cycle(kwargs, step) <= 0)
    return low + (high - low) * one_cycle_height(kwargs, static_cast<double>(step));
  return low / decay_factor(kwargs, kwargs.decay_lr_rate.value_or(0), step);
}

// The last one is the largest: it grows after the cycle.
void check_beta1(const Schedule& schedule) {
  const double largest = std::max({schedule.kwargs.cycle_min_mom.value_or(kOneCycleLowBeta1),
                                   schedule.kwargs.cycle_max_mom.value_or(kOneCycleHighBeta1),
                                   beta1(schedule, std::max<int64_t>(0, schedule.total_steps - 1))});
  if (largest < 1) return;
  fail(ErrorKind::kUsage, "the schedule OneCycle takes adam_beta1 to ", largest,
       ", and AdamW needs one below 1: lower cycle_min_mom, cycle_max_mom or decay_mom_rate in lr_scheduler_kwargs");
}

}  // namespace

void check_schedule(const Schedule& schedule) {
  const SchedulerKwargs& kwargs = schedule.kwargs;
  const auto word = config::to_word(schedule.type);
  const bool needs_floor =
      schedule.type == SchedulerType::kCosineWithMinLr || schedule.type == SchedulerType::kCosineWarmupWithMinLr;
  if (needs_floor && kwargs.min_lr.has_value() == kwargs.min_lr_rate.has_value()) {
    fail(ErrorKind::kUsage, "the schedule ", word, " needs either min_lr or min_lr_rate in lr_scheduler_kwargs");
  }
  if (needs_floor && kwargs.min_lr && schedule.learning_rate <= 0) {
    fail(ErrorKind::kUsage, "the schedule ", word, " with min_lr needs a learning_rate above 0");
  }
  const double polynomial_end = kwargs.lr_end.value_or(kPolynomialEnd);
  if (schedule.type == SchedulerType::kPolynomial && !(schedule.learning_rate > polynomial_end)) {
    fail(ErrorKind::kUsage, "the schedule polynomial ends at lr_end ", polynomial_end,
         ", which must be below learning_rate ", schedule.learning_rate);
  }
  if (is_deepspeed_warmup(schedule.type) && schedule.warmup_steps < 1) {
    fail(ErrorKind::kUsage, "the schedule ", word, " needs a warm-up of at least 1 update, as DeepSpeed does");
  }
  if (moves_betas(schedule)) check_beta1(schedule);
  if (schedule.type != SchedulerType::kWarmupStableDecay) return;
  if (!kwargs.num_decay_steps) {
    fail(ErrorKind::kUsage, "the schedule warmup_stable_decay needs num_decay_steps in lr_scheduler_kwargs");
  }
  const int64_t num_phase_steps = schedule.warmup_steps + kwargs.num_stable_steps.value_or(0) + *kwargs.num_decay_steps;
  if (!kwargs.num_stable_steps && num_phase_steps > schedule.total_steps) {
    fail(ErrorKind::kUsage, "the schedule warmup_stable_decay has ", schedule.warmup_steps, " steps of warm-up and ",
         *kwargs.num_decay_steps, " of decay, but the run has only ", schedule.total_steps, " steps");
  }
}

void check_total_steps(const Schedule& schedule) {
  const auto& written = schedule.kwargs.total_num_steps;
  if (!written || *written == schedule.total_steps) return;
  fail(ErrorKind::kUsage, "lr_scheduler_kwargs.total_num_steps is ", *written, ", but the run has ",
       schedule.total_steps,
       " updates; write \"auto\" in a DeepSpeed file, or remove the key from the recipe, and the ",
       "schedule takes the run's length");
}

double learning_rate(const Schedule& schedule, int64_t step) {
  if (is_deepspeed_warmup(schedule.type)) return deepspeed_warmup(schedule, step);
  if (schedule.type == SchedulerType::kOneCycle) return one_cycle(schedule, step);
  return schedule.learning_rate * factor(schedule, step);
}

bool moves_betas(const Schedule& schedule) {
  return schedule.type == SchedulerType::kOneCycle && schedule.kwargs.cycle_momentum.value_or(true);
}

double beta1(const Schedule& schedule, int64_t step) {
  const SchedulerKwargs& kwargs = schedule.kwargs;
  const double low = kwargs.cycle_min_mom.value_or(kOneCycleLowBeta1);
  const double high = kwargs.cycle_max_mom.value_or(kOneCycleHighBeta1);
  if (step == 0) return low;  // DeepSpeed begins at the lower end, and the second update is at the upper one
  if (steps_after_cycle(kwargs, step) <= 0)
    return high - (high - low) * one_cycle_height(kwargs, static_cast<double>(step));
  return high * decay_factor(kwargs, kwargs.decay_mom_rate.value_or(0), step);
}

int64_t warmup_steps_of(double ratio, int64_t total_steps) {
  return static_cast<int64_t>(std::ceil(ratio * static_cast<double>(total_steps)));
}

std::vector<std::pair<std::string, int64_t>> notable_steps(const Schedule& schedule) {
  std::vector<std::pair<std::string, int64_t>> steps;
  const int64_t last = schedule.total_steps - 1;
  const auto add = [&](const char* name, int64_t step) {
    if (step >= 0 && step <= last && (steps.empty() || step > steps.back().second)) steps.emplace_back(name, step);
  };
  add("first", 0);
  add("last warm-up", schedule.warmup_steps - 1);
  add("middle", schedule.total_steps / 2);
  add("last", last);
  return steps;
}

}  // namespace dsft::optim
