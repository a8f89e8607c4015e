#include "text/tool_calls.h"

#include <algorithm>
#include <optional>

namespace dsft::text {

namespace {

using nlohmann::json;

constexpr size_t kMaxJsonDepth = 256;

// The text of the JSON value that starts at `at` (an object or a list), found by its brackets; nullopt where it does
// not end.
std::optional<std::string_view> json_span(std::string_view text, size_t at) {
  std::string open;
  bool is_in_string = false;
  for (size_t i = at; i < text.size(); ++i) {
    const char c = text[i];
    if (is_in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        is_in_string = false;
      }
      continue;
    }
    if (c == '"') is_in_string = true;
    if (c == '{' || c == '[') {
      open += c == '{' ? '}' : ']';
      if (open.size() > kMaxJsonDepth) return std::nullopt;
    }
    if (c != '}' && c != ']') continue;
    if (open.empty() || open.back() != c) return std::nullopt;
    open.pop_back();
    if (open.empty()) return text.substr(at, i + 1 - at);
  }
  return std::nullopt;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpaces);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpaces) + 1 - begin);
}

// A whole text as JSON; nullopt where it is none or nests too deep.
std::optional<json> parse_json(std::string_view text) {
  text = trimmed(text);
  if (!text.empty() && (text[0] == '{' || text[0] == '[')) {
    const auto span = json_span(text, 0);
    if (!span || span->size() != text.size()) return std::nullopt;
  }
  json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) return std::nullopt;
  return value;
}

// Arguments as an object: as they are, or from a JSON string; nullopt where they are neither.
std::optional<json> arguments_of(const json& value) {
  if (value.is_object()) return value;
  if (value.is_null()) return json::object();
  if (!value.is_string()) return std::nullopt;
  if (trimmed(value.get_ref<const std::string&>()).empty()) return json::object();
  auto parsed = parse_json(value.get_ref<const std::string&>());
  return parsed && parsed->is_object() ? parsed : std::nullopt;
}

// {name, arguments} or {name, parameters}, possibly inside {type, function: {...}}.
std::optional<ToolCall> call_of(const json& value) {
  if (!value.is_object()) return std::nullopt;
  const json& call = value.contains("function") && value["function"].is_object() ? value["function"] : value;
  const auto name = call.find("name");
  if (name == call.end() || !name->is_string() || name->get_ref<const std::string&>().empty()) return std::nullopt;
  for (const char* key : {"arguments", "parameters"}) {
    if (!call.contains(key)) continue;
    auto arguments = arguments_of(call[key]);
    if (!arguments) return std::nullopt;
    return ToolCall{name->get<std::string>(), std::move(*arguments)};
  }
  return std::nullopt;
}

const ToolCall kBrokenCall{"", json::object()};

// The body of <function=name>: a JSON object, or <parameter=key>value</parameter> pairs.
ToolCall call_of_function_tag(std::string_view name, std::string_view body) {
  ToolCall call{std::string(trimmed(name)), json::object()};
  body = trimmed(body);
  if (body.empty()) return call;
  if (body[0] == '{') {
    auto arguments = parse_json(body);
    if (!arguments || !arguments->is_object()) return kBrokenCall;
    call.arguments = std::move(*arguments);
    return call;
  }
  constexpr std::string_view kOpen = "<parameter=";
  constexpr std::string_view kClose = "</parameter>";
  for (size_t at = body.find(kOpen); at != std::string_view::npos; at = body.find(kOpen, at)) {
    const size_t key = at + kOpen.size();
    const size_t value = body.find('>', key);
    const size_t end = value == std::string_view::npos ? value : body.find(kClose, value);
    if (end == std::string_view::npos) return kBrokenCall;
    const std::string_view text = trimmed(body.substr(value + 1, end - value - 1));
    auto parsed = parse_json(text);
    call.arguments[std::string(trimmed(body.substr(key, value - key)))] =
        parsed && !parsed->is_string() ? std::move(*parsed) : json(std::string(text));
    at = end;
  }
  return call.arguments.empty() ? kBrokenCall : call;
}

// Where the body that starts at `begin` ends: at its closing tag, or else before the next opening tag. The closing tag
// is looked for up to there only: a text of opening tags alone would take quadratic time.
size_t end_of_body(std::string_view text, size_t begin, size_t next, std::string_view close) {
  const size_t limit = std::min(next, text.size());
  return std::min(text.substr(0, limit).find(close, begin), limit);
}

std::vector<ToolCall> calls_of_function_tags(std::string_view text) {
  constexpr std::string_view kOpen = "<function=";
  constexpr std::string_view kClose = "</function>";
  std::vector<ToolCall> calls;
  for (size_t at = text.find(kOpen); at != std::string_view::npos;) {
    const size_t name = at + kOpen.size();
    const size_t body = text.find('>', name);
    if (body == std::string_view::npos) {
      calls.push_back(kBrokenCall);
      break;
    }
    const size_t next = text.find(kOpen, body);
    const size_t end = end_of_body(text, body, next, kClose);
    calls.push_back(call_of_function_tag(text.substr(name, body - name), text.substr(body + 1, end - body - 1)));
    at = next;
  }
  return calls;
}

std::vector<ToolCall> calls_of_tags(std::string_view text) {
  constexpr std::string_view kOpen = "<tool_call>";
  constexpr std::string_view kClose = "</tool_call>";
  std::vector<ToolCall> calls;
  for (size_t at = text.find(kOpen); at != std::string_view::npos;) {
    const size_t begin = at + kOpen.size();
    const size_t next = text.find(kOpen, begin);
    const size_t end = end_of_body(text, begin, next, kClose);
    const std::string_view body = trimmed(text.substr(begin, end - begin));
    at = next;
    if (body.starts_with("<function=")) {
      const auto tagged = calls_of_function_tags(body);
      calls.insert(calls.end(), tagged.begin(), tagged.end());
      continue;
    }
    const auto parsed = parse_json(body);
    const auto call = parsed ? call_of(*parsed) : std::nullopt;
    calls.push_back(call.value_or(kBrokenCall));
  }
  return calls;
}

// A JSON object or a list of them: all must be calls, else there is none.
std::optional<std::vector<ToolCall>> calls_of_json(const json& value) {
  std::vector<ToolCall> calls;
  if (value.is_object()) {
    auto call = call_of(value);
    if (!call) return std::nullopt;
    return std::vector<ToolCall>{std::move(*call)};
  }
  if (!value.is_array() || value.empty()) return std::nullopt;
  for (const json& entry : value) {
    auto call = call_of(entry);
    if (!call) return std::nullopt;
    calls.push_back(std::move(*call));
  }
  return calls;
}

// Objects one after another, parted by spaces or semicolons, as Llama 3 writes several calls.
std::vector<ToolCall> calls_of_bare_json(std::string_view text) {
  std::vector<ToolCall> calls;
  text = trimmed(text);
  while (!text.empty() && (text[0] == '{' || text[0] == '[')) {
    const auto span = json_span(text, 0);
    const auto value = span ? parse_json(*span) : std::nullopt;
    const auto found = value ? calls_of_json(*value) : std::nullopt;
    if (!found) return {};
    calls.insert(calls.end(), found->begin(), found->end());
    text = trimmed(text.substr(span->size()));
    while (!text.empty() && (text[0] == ';' || text[0] == ',')) text = trimmed(text.substr(1));
  }
  // Text behind the JSON is allowed only for a template's end-of-turn words.
  return text.empty() || text[0] == '<' ? calls : std::vector<ToolCall>{};
}

// Mistral: [TOOL_CALLS][{...}, ...], or [TOOL_CALLS]name[ARGS]{...} (possibly repeated).
std::vector<ToolCall> calls_of_mistral(std::string_view text) {
  constexpr std::string_view kMark = "[TOOL_CALLS]";
  constexpr std::string_view kArguments = "[ARGS]";
  std::vector<ToolCall> calls;
  for (size_t at = text.find(kMark); at != std::string_view::npos;) {
    const size_t begin = at + kMark.size();
    const size_t next = text.find(kMark, begin);
    const std::string_view body = trimmed(text.substr(begin, std::min(next, text.size()) - begin));
    at = next;
    if (!body.empty() && (body[0] == '[' || body[0] == '{')) {
      const auto found = calls_of_bare_json(body);
      calls.insert(calls.end(), found.begin(), found.end());
      if (found.empty()) calls.push_back(kBrokenCall);
      continue;
    }
    const size_t brace = body.find('{');
    const auto span = brace == std::string_view::npos ? std::nullopt : json_span(body, brace);
    const auto arguments = span ? parse_json(*span) : std::nullopt;
    const std::string_view name = trimmed(body.substr(0, std::min({body.find(kArguments), brace, body.size()})));
    calls.push_back(arguments && arguments->is_object() && !name.empty() ? ToolCall{std::string(name), *arguments}
                                                                         : kBrokenCall);
  }
  return calls;
}

}  // namespace

std::vector<ToolCall> read_tool_calls(std::string_view answer) {
  if (answer.find("<tool_call>") != std::string_view::npos) return calls_of_tags(answer);
  if (answer.find("[TOOL_CALLS]") != std::string_view::npos) return calls_of_mistral(answer);
  if (answer.find("<function=") != std::string_view::npos) return calls_of_function_tags(answer);
  constexpr std::string_view kPythonTag = "<|python_tag|>";
  const size_t tag = answer.find(kPythonTag);
  return calls_of_bare_json(tag == std::string_view::npos ? answer : answer.substr(tag + kPythonTag.size()));
}

std::vector<ToolCall> tool_calls_of_message(const nlohmann::ordered_json& message) {
  if (!message.is_object()) return {};
  const auto entries = message.find("tool_calls");
  if (entries != message.end() && entries->is_array() && !entries->empty()) {
    std::vector<ToolCall> calls;
    for (const auto& entry : *entries) calls.push_back(call_of(json(entry)).value_or(kBrokenCall));
    return calls;
  }
  const auto content = message.find("content");
  if (content == message.end() || !content->is_string()) return {};
  return read_tool_calls(content->get_ref<const std::string&>());
}

}  // namespace dsft::text
