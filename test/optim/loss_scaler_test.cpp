#include "optim/loss_scaler.h"

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"

using dsft::optim::LossScaler;
using dsft::optim::LossScalerOptions;

namespace {

/// The scale after each update; 'x' is an overflow, '.' none.
std::vector<double> trace(LossScaler& scaler, const std::string& updates) {
  std::vector<double> scales;
  for (char update : updates) {
    scaler.update(update == 'x');
    scales.push_back(scaler.scale());
  }
  return scales;
}

}  // namespace

TEST_CASE("The first overflow uses up hysteresis, the next ones halve the scale", "[optim]") {
  LossScaler scaler({.initial_scale = 16, .loss_scale_window = 100});
  REQUIRE(trace(scaler, "x.xx.x") == std::vector<double>{16, 16, 8, 4, 4, 2});
}

TEST_CASE("The scale doubles after each whole window without an overflow, which restores hysteresis", "[optim]") {
  LossScaler scaler({.initial_scale = 16, .loss_scale_window = 3});
  // from the start: iteration - (-1) - 1 = 3 at the fourth update, 6 at the seventh
  REQUIRE(trace(scaler, ".......") == std::vector<double>{16, 16, 16, 32, 32, 32, 64});
  // overflow at iteration 7; stable counts 0 1 2 3 at 8, 9, 10, 11
  REQUIRE(trace(scaler, "x....") == std::vector<double>{64, 64, 64, 64, 128});
  REQUIRE(trace(scaler, "xx") == std::vector<double>{128, 64});
}

TEST_CASE("Without consecutive hysteresis, scattered overflows add up; with it, only adjacent ones do", "[optim]") {
  LossScaler plain({.initial_scale = 16, .loss_scale_window = 100, .hysteresis = 3});
  REQUIRE(trace(plain, "x.x.x") == std::vector<double>{16, 16, 16, 16, 8});
  LossScaler consecutive(
      {.initial_scale = 16, .loss_scale_window = 100, .hysteresis = 3, .consecutive_hysteresis = true});
  REQUIRE(trace(consecutive, "x.x.xxx") == std::vector<double>{16, 16, 16, 16, 16, 16, 8});
}

TEST_CASE("The scale stays at its minimum, and says so", "[optim]") {
  LossScaler scaler({.initial_scale = 4, .hysteresis = 1, .min_loss_scale = 2});
  REQUIRE_FALSE(scaler.is_at_minimum());
  REQUIRE(trace(scaler, "xxx") == std::vector<double>{2, 2, 2});
  REQUIRE(scaler.is_at_minimum());
}

TEST_CASE("A restored scaler goes on as the saved one", "[optim]") {
  const LossScalerOptions options{.initial_scale = 64, .loss_scale_window = 4};
  LossScaler scaler(options), restored(options);
  trace(scaler, "..x..x.");
  restored.restore(scaler.state());
  REQUIRE(trace(restored, ".....x.x......") == trace(scaler, ".....x.x......"));
  REQUIRE(restored.state() == scaler.state());
}

TEST_CASE("The defaults are DeepSpeed's", "[optim]") {
  LossScaler scaler(LossScalerOptions{});
  REQUIRE(scaler.scale() == 65536);
  for (int i = 0; i < 1000; ++i) scaler.update(false);
  REQUIRE(scaler.scale() == 65536);
  scaler.update(false);
  REQUIRE(scaler.scale() == 131072);
}

TEST_CASE("A recipe's loss scaler begins at a power of two, or keeps the scale that it names", "[optim]") {
  LossScaler dynamic(dsft::optim::to_options(
      {.initial_scale_power = 5, .loss_scale_window = 3, .hysteresis = 1, .min_loss_scale = 16}));
  REQUIRE(trace(dynamic, "xx") == std::vector<double>{16, 16});
  LossScaler fixed(dsft::optim::to_options({.loss_scale = 128, .loss_scale_window = 1}));
  REQUIRE(fixed.scale() == 128);
  REQUIRE(trace(fixed, "x..x..") == std::vector<double>(6, 128));
  REQUIRE(fixed.is_at_minimum());
}

TEST_CASE("The scale moves as DeepSpeed's scalers move it", "[optim]") {
  const auto golden = nlohmann::json::parse(std::ifstream(DSFT_SOURCE_DIR "/test/fixtures/optim/loss_scaler.json"));
  size_t num_updates = 0;
  for (const auto& item : golden) {
    const auto& block = item["fp16"];
    INFO(block);
    LossScaler scaler(dsft::optim::to_options({.loss_scale = block.value("loss_scale", 0.0),
                                               .initial_scale_power = block.value("initial_scale_power", 16),
                                               .loss_scale_window = block.value("loss_scale_window", 1000),
                                               .hysteresis = block.value("hysteresis", 2),
                                               .consecutive_hysteresis = block.value("consecutive_hysteresis", false),
                                               .min_loss_scale = block.value("min_loss_scale", 1.0)}));
    REQUIRE(trace(scaler, item["updates"]) == item["scales"].get<std::vector<double>>());
    num_updates += item["scales"].size();
  }
  REQUIRE(num_updates > 700);
}
