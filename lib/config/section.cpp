#include "config/section.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "base/error.h"

namespace dsft::config {
namespace {

/// Where the other one stands, for a message at `here`.
std::string place_of(const Position& position, const Position& here) {
  if (position.file == kCommandLine) return "on the command line";
  if (position.file != here.file) return "at " + to_string(position);
  return concat("at line ", position.line);
}

}  // namespace

Position Section::position(const std::string& key) const {
  std::string path = prefix_ + key;
  while (!path.empty()) {
    const auto found = written_.find(path);
    if (found != written_.end()) return found->second;
    const size_t dot = path.rfind('.');
    path.resize(dot == std::string::npos ? 0 : dot);
  }
  const auto root = written_.find("");
  return root != written_.end() ? root->second : Position{};
}

bool Section::has_fault(const std::string& key) const {
  return std::any_of(faults_.begin(), faults_.end(), [&](const Fault& fault) { return fault.key == prefix_ + key; });
}

void Section::fault(const std::string& key, std::string message) {
  faults_.push_back({position(key), prefix_ + key, std::move(message)});
}

void Section::warn(const std::string& key, std::string message) {
  if (is_written(key)) remark(key, std::move(message));
}

void Section::remark(const std::string& key, std::string message) {
  warnings_.push_back({position(key), prefix_ + key, std::move(message)});
}

void Section::no_effect(const std::string& key, const std::string& reason) {
  warn(key, "has no effect: " + reason);
}

void Section::conflict(const std::string& key, const std::string& other, const std::string& reason) {
  if (!is_written(key) || !is_written(other)) return;
  const auto order = [this](const std::string& name) {
    const Position place = position(name);
    return std::tuple(place.file == kCommandLine, place.line, place.column);
  };
  const bool is_key_later = order(key) >= order(other);
  const std::string& later = is_key_later ? key : other;
  const std::string& earlier = is_key_later ? other : key;
  fault(later,
        concat("contradicts `", prefix_, earlier, "` ", place_of(position(earlier), position(later)), ": ", reason));
}

}  // namespace dsft::config
