#include "config/yaml_writer.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>

#include "config/value.h"

namespace dsft::config {
namespace {

/// A text in double quotes, escaped so that JSON and YAML read it alike.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\r':
        out += "\\r";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
          char escape[8];
          std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned char>(c));
          out += escape;
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

/// Whether a text can stand without quotes and still be read as a text.
bool is_plain_text(const std::string& text) {
  if (text.empty() || !(std::isalpha(static_cast<unsigned char>(text[0])) || text[0] == '/' || text[0] == '_'))
    return false;
  const auto is_safe = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '/' || c == '.' || c == '-'; };
  if (!std::all_of(text.begin(), text.end(), is_safe)) return false;
  const Node plain = make_plain(text);
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return !to_bool(plain) && lower != "null" && lower != "y" && lower != "n";
}

std::string scalar_text(const Node& node) {
  if (node.is_null()) return "null";
  return !node.is_string || is_plain_text(node.text) ? node.text : quoted(node.text);
}

std::string key_text(const std::string& key) {
  return is_plain_text(key) ? key : quoted(key);
}

std::string flow_text(const Node& node) {
  std::string text;
  if (node.is_sequence()) {
    for (const Node& item : node.items) text += (text.empty() ? "" : ", ") + flow_text(item);
    return "[" + text + "]";
  }
  if (node.is_map()) {
    for (const Entry& entry : node.entries) {
      text += (text.empty() ? "" : ", ") + key_text(entry.key) + ": " + flow_text(entry.value);
    }
    return "{" + text + "}";
  }
  return scalar_text(node);
}

void write_map(const Node& map, const std::string& indent, std::string& out) {
  for (const Entry& entry : map.entries) {
    out += indent + key_text(entry.key) + ":";
    if (entry.value.is_map() && !entry.value.entries.empty()) {
      out += "\n";
      write_map(entry.value, indent + "  ", out);
    } else {
      out += " " + flow_text(entry.value) + "\n";
    }
  }
}

std::string json_scalar(const Node& node) {
  if (node.is_null() || node.text == "null" || node.text == "~") return "null";
  if (const auto boolean = to_bool(node)) return *boolean ? "true" : "false";
  if (const auto integer = to_integer(node); integer && node.text.find_first_of(".eE") == std::string::npos) {
    return std::to_string(*integer);
  }
  if (const auto number = to_number(node); number && std::isfinite(*number)) return number_text(*number);
  return quoted(node.text);
}

}  // namespace

std::string write_yaml(const Node& node) {
  if (!node.is_map() || node.entries.empty()) return flow_text(node) + "\n";
  std::string out;
  write_map(node, "", out);
  return out;
}

std::string write_json(const Node& node) {
  std::string text;
  switch (node.kind) {
    case Node::Kind::kSequence:
      for (const Node& item : node.items) text += (text.empty() ? "" : ", ") + write_json(item);
      return "[" + text + "]";
    case Node::Kind::kMap:
      for (const Entry& entry : node.entries) {
        text += (text.empty() ? "" : ", ") + quoted(entry.key) + ": " + write_json(entry.value);
      }
      return "{" + text + "}";
    default:
      return node.is_string ? quoted(node.text) : json_scalar(node);
  }
}

}  // namespace dsft::config
