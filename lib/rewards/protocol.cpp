#include "rewards/protocol.h"

#include <cmath>
#include <set>

#include "base/error.h"
#include "io/json.h"
#include "text/utf8.h"

namespace dsft::rewards {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

json parse_object(std::string_view line, const std::string& what) {
  json object;
  try {
    object = io::parse_json(line, what, ErrorKind::kData, {.max_size_bytes = line.size() + 1, .max_depth = 32});
  } catch (const Error& error) {
    for (const char* number : {"NaN", "Infinity"})
      if (line.starts_with('{') && line.find(number) != std::string_view::npos)
        fail(ErrorKind::kData, "wrote `", shortened(line), "` as ", what, ": JSON has no ", number,
             "; a reward is a finite number, or null where it does not apply");
    fail(ErrorKind::kData, "wrote `", shortened(line), "` as ", what, " (", error.message(),
         "); standard output is for one JSON object per line, a log goes to standard error");
  }
  if (!object.is_object())
    fail(ErrorKind::kData, "wrote `", shortened(line), "` as ", what, ", which is no JSON object");
  return object;
}

double read_reward(const json& value, size_t place) {
  if (!value.is_number()) {
    fail(ErrorKind::kData, "gave ", shortened(value.dump(-1, ' ', false, json::error_handler_t::replace)),
         " as reward ", place, " of its reply, which is neither a number nor null");
  }
  const double reward = value.get<double>();
  if (!std::isfinite(reward))
    fail(ErrorKind::kData, "gave a reward that is not finite (number ", place, " of its reply)");
  return reward;
}

}  // namespace

std::string shortened(std::string_view text) {
  constexpr size_t kMost = 120;
  std::string line = text::replace_invalid_utf8(text.substr(0, kMost));
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return text.size() > kMost ? concat(line, "... (", text.size(), " bytes)") : line;
}

std::string read_greeting(std::string_view line) {
  const json greeting = parse_object(line, "its first line");
  const auto protocol = greeting.find("protocol");
  if (protocol == greeting.end() || !protocol->is_number() || *protocol != kProtocol) {
    fail(ErrorKind::kData, "speaks protocol ", protocol == greeting.end() ? "nothing" : shortened(protocol->dump()),
         ", not ", kProtocol, ": its first line must be {\"protocol\": ", kProtocol, ", \"name\": ...}, not `",
         shortened(line), "`");
  }
  const auto name = greeting.find("name");
  if (name == greeting.end() || !name->is_string())
    fail(ErrorKind::kData, "has no text as `name` in its first line `", shortened(line), "`");
  return name->get<std::string>();
}

std::string write_request(int64_t id, int64_t step, std::span<const Sample> samples) {
  ordered_json request = {{"id", id}, {"step", step}};
  ordered_json prompts = ordered_json::array(), completions = ordered_json::array(), ids = ordered_json::array();
  std::set<std::string> names;
  for (const Sample& sample : samples) {
    prompts.push_back(sample.prompt);
    completions.push_back(sample.completion);
    ids.push_back(sample.completion_ids);
    for (const auto& [name, value] : sample.columns.items()) names.insert(name);
  }
  ordered_json columns = ordered_json::object();
  for (const std::string& name : names) {
    ordered_json values = ordered_json::array();
    for (const Sample& sample : samples) {
      const bool has_it = sample.columns.is_object() && sample.columns.contains(name);
      values.push_back(has_it ? sample.columns[name] : ordered_json(nullptr));
    }
    columns[name] = std::move(values);
  }
  request["prompts"] = std::move(prompts);
  request["completions"] = std::move(completions);
  request["completion_ids"] = std::move(ids);
  request["columns"] = std::move(columns);
  return request.dump(-1, ' ', /*ensure_ascii=*/false, ordered_json::error_handler_t::replace) + "\n";
}

std::vector<std::optional<double>> read_reply(std::string_view line, int64_t id, size_t num_samples) {
  const json reply = parse_object(line, concat("its reply to request ", id));
  const auto of_request = reply.find("id");
  if (of_request == reply.end())
    fail(ErrorKind::kData, "wrote a reply without the `id` of the request, which was ", id, ": `", shortened(line),
         "`");
  if (!of_request->is_number() || *of_request != id)
    fail(ErrorKind::kData, "answered request ", shortened(of_request->dump()), " where request ", id, " was asked");
  const auto rewards = reply.find("rewards");
  if (rewards == reply.end() || !rewards->is_array())
    fail(ErrorKind::kData, "wrote a reply without a list `rewards`: `", shortened(line), "`");
  if (rewards->size() != num_samples) {
    fail(ErrorKind::kData, "gave ", rewards->size(), rewards->size() == 1 ? " reward" : " rewards", " for ",
         num_samples, num_samples == 1 ? " completion" : " completions");
  }
  std::vector<std::optional<double>> values;
  for (const json& value : *rewards)
    values.push_back(value.is_null() ? std::nullopt : std::optional(read_reward(value, values.size() + 1)));
  return values;
}

size_t longest_line(size_t num_samples) {
  return (size_t{1} << 20) + 256 * num_samples;
}

void LineReader::add(std::string_view bytes, size_t longest) {
  pending_ += bytes;
  const size_t end = pending_.find('\n', num_searched_);
  num_searched_ = end == std::string::npos ? pending_.size() : end;
  if (num_searched_ > longest) {
    fail(ErrorKind::kData, "wrote more than ", longest, " bytes without a line break, beginning with `", beginning(),
         "`");
  }
}

std::optional<std::string> LineReader::next() {
  const size_t end = pending_.find('\n', num_searched_);
  if (end == std::string::npos) return std::nullopt;
  std::string line = pending_.substr(0, end);
  pending_.erase(0, end + 1);
  num_searched_ = 0;
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

std::string LineReader::beginning() const {
  return shortened(std::string_view(pending_).substr(0, pending_.find('\n')));
}

}  // namespace dsft::rewards
