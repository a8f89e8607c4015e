#include "optim/schedule.h"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "catch_amalgamated.hpp"
#include "support/require_error.h"

using namespace dsft;
using optim::Schedule;
using optim::SchedulerType;

namespace {

template <typename T>
std::optional<T> optional_of(const nlohmann::json& kwargs, const char* name) {
  return kwargs.contains(name) ? std::optional<T>(kwargs[name].get<T>()) : std::nullopt;
}

std::optional<optim::RampType> ramp_of(const nlohmann::json& kwargs, const char* name) {
  if (!kwargs.contains(name)) return std::nullopt;
  return config::from_word<optim::RampType>(kwargs[name].get<std::string>());
}

Schedule schedule_of(const nlohmann::json& item, double peak) {
  const nlohmann::json& kwargs = item["kwargs"];
  return {.type = config::from_word<SchedulerType>(item["name"].get<std::string>()).value(),
          .kwargs = {.num_cycles = optional_of<double>(kwargs, "num_cycles"),
                     .lr_end = optional_of<double>(kwargs, "lr_end"),
                     .power = optional_of<double>(kwargs, "power"),
                     .timescale = optional_of<int64_t>(kwargs, "timescale"),
                     .min_lr = optional_of<double>(kwargs, "min_lr"),
                     .min_lr_rate = optional_of<double>(kwargs, "min_lr_rate"),
                     .warmup_lr_rate = optional_of<double>(kwargs, "warmup_lr_rate"),
                     .num_stable_steps = optional_of<int64_t>(kwargs, "num_stable_steps"),
                     .num_decay_steps = optional_of<int64_t>(kwargs, "num_decay_steps"),
                     .warmup_type = ramp_of(kwargs, "warmup_type"),
                     .decay_type = ramp_of(kwargs, "decay_type"),
                     .min_lr_ratio = optional_of<double>(kwargs, "min_lr_ratio"),
                     .total_num_steps = optional_of<int64_t>(kwargs, "total_num_steps"),
                     .warmup_min_lr = optional_of<double>(kwargs, "warmup_min_lr"),
                     .warmup_min_ratio = optional_of<double>(kwargs, "warmup_min_ratio"),
                     .cos_min_ratio = optional_of<double>(kwargs, "cos_min_ratio"),
                     .cycle_min_lr = optional_of<double>(kwargs, "cycle_min_lr"),
                     .cycle_max_lr = optional_of<double>(kwargs, "cycle_max_lr"),
                     .cycle_first_step_size = optional_of<int64_t>(kwargs, "cycle_first_step_size"),
                     .cycle_second_step_size = optional_of<int64_t>(kwargs, "cycle_second_step_size"),
                     .cycle_first_stair_count = optional_of<int64_t>(kwargs, "cycle_first_stair_count"),
                     .cycle_second_stair_count = optional_of<int64_t>(kwargs, "cycle_second_stair_count"),
                     .decay_step_size = optional_of<int64_t>(kwargs, "decay_step_size"),
                     .decay_lr_rate = optional_of<double>(kwargs, "decay_lr_rate"),
                     .cycle_momentum = optional_of<bool>(kwargs, "cycle_momentum"),
                     .cycle_min_mom = optional_of<double>(kwargs, "cycle_min_mom"),
                     .cycle_max_mom = optional_of<double>(kwargs, "cycle_max_mom"),
                     .decay_mom_rate = optional_of<double>(kwargs, "decay_mom_rate")},
          .learning_rate = peak,
          .warmup_steps = item["warmup"],
          .total_steps = item["total"]};
}

}  // namespace

namespace {

void check_rates(const std::string& file, size_t num_cases) {
  const auto golden = nlohmann::json::parse(std::ifstream(DSFT_SOURCE_DIR "/test/fixtures/optim/" + file));
  const double peak = golden["peak"];
  for (const auto& item : golden["cases"]) {
    const Schedule schedule = schedule_of(item, peak);
    optim::check_schedule(schedule);
    for (const auto& row : item["rates"]) {
      INFO(item["name"] << " " << item["kwargs"] << " warm-up " << item["warmup"] << " of " << item["total"]
                        << ", step " << row[0]);
      REQUIRE(std::abs(optim::learning_rate(schedule, row[0]) - row[1].get<double>()) <= peak * 1e-14);
      REQUIRE(optim::moves_betas(schedule) == (row.size() == 4));
      if (row.size() != 4) continue;
      REQUIRE(std::abs(optim::beta1(schedule, row[0]) - row[2].get<double>()) <= 1e-15);
      REQUIRE(optim::kMovedBeta2 == row[3].get<double>());
    }
  }
  REQUIRE(golden["cases"].size() > num_cases);
}

}  // namespace

TEST_CASE("Every schedule gives transformers' learning rate at every step", "[optim]") {
  check_rates("schedules.json", 80);
}

TEST_CASE("DeepSpeed's schedules give the rate that its engine leaves after each update", "[optim]") {
  check_rates("deepspeed_schedules.json", 80);
}

TEST_CASE("A schedule without steps after its warm-up ends finite", "[optim]") {
  for (const auto& word : words_of(SchedulerType::kLinear)) {
    Schedule schedule{.type = word.value, .learning_rate = 1, .warmup_steps = 3, .total_steps = 3};
    schedule.kwargs.min_lr_rate = 0.1;
    schedule.kwargs.num_decay_steps = 0;
    REQUIRE(std::isfinite(optim::learning_rate(schedule, 3)));
  }
}

TEST_CASE("The steps of a warm-up ratio are rounded up", "[optim]") {
  REQUIRE(optim::warmup_steps_of(0.03, 100) == 3);
  REQUIRE(optim::warmup_steps_of(0.03, 101) == 4);
  REQUIRE(optim::warmup_steps_of(0, 100) == 0);
}

TEST_CASE("What no schedule can be made of is a fault", "[optim]") {
  const auto require_fault = [](Schedule schedule, std::initializer_list<std::string> parts) {
    test::require_error(ErrorKind::kUsage, parts, [&] { optim::check_schedule(schedule); });
  };
  require_fault({.type = SchedulerType::kCosineWithMinLr, .learning_rate = 1}, {"cosine_with_min_lr", "min_lr_rate"});
  require_fault({.type = SchedulerType::kPolynomial, .learning_rate = 1e-8}, {"polynomial", "1e-07", "1e-08"});
  require_fault({.type = SchedulerType::kWarmupStableDecay, .learning_rate = 1}, {"num_decay_steps"});
  require_fault({.type = SchedulerType::kWarmupDecayLr, .learning_rate = 1}, {"WarmupDecayLR", "at least 1 update"});
  Schedule too_long{
      .type = SchedulerType::kWarmupStableDecay, .learning_rate = 1, .warmup_steps = 3, .total_steps = 10};
  too_long.kwargs.num_decay_steps = 8;
  require_fault(too_long, {"3 steps of warm-up", "8 of decay", "10 steps"});
  Schedule growing{.type = SchedulerType::kOneCycle, .total_steps = 20};
  growing.kwargs.cycle_first_step_size = 2;
  growing.kwargs.decay_step_size = 1;
  growing.kwargs.decay_mom_rate = 0.01;  // 0.9 (1 + 0.01 * 15) in the last update
  require_fault(growing, {"adam_beta1 to 1.035", "decay_mom_rate"});
  growing.total_steps = 15;
  optim::check_schedule(growing);
}

TEST_CASE("A total_num_steps that is not the run's length is a fault", "[optim]") {
  Schedule schedule{.type = SchedulerType::kWarmupDecayLr, .learning_rate = 1, .warmup_steps = 2, .total_steps = 64};
  optim::check_total_steps(schedule);
  schedule.kwargs.total_num_steps = 64;
  optim::check_total_steps(schedule);
  for (const int64_t other : {5, 65}) {
    schedule.kwargs.total_num_steps = other;
    test::require_error(ErrorKind::kUsage, {"total_num_steps is " + std::to_string(other), "64 updates", "auto"},
                        [&] { optim::check_total_steps(schedule); });
  }
}
