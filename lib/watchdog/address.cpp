#include "watchdog/address.h"

#include "base/error.h"
#include "base/parse_number.h"
#include "watchdog/beat.h"

namespace dsft::watchdog {
namespace {

constexpr std::string_view kUnix = "unix;", kTcp = "tcp;";

std::string_view take_word(std::string_view& text) {
  const std::string_view word = text.substr(0, text.find(';'));
  text.remove_prefix(std::min(text.size(), word.size() + 1));
  return word;
}

}  // namespace

std::string to_text(const Address& address) {
  if (!address.path.empty()) return concat(kUnix, address.token, ";", address.path);
  std::string text = concat(kTcp, address.token, ";", address.port);
  for (const std::string& host : address.hosts) text += ";" + host;
  return text;
}

Address parse_address(std::string_view text) {
  const std::string_view whole = text;
  Address address;
  const bool is_unix = text.starts_with(kUnix);
  bool is_valid = is_unix || text.starts_with(kTcp);
  take_word(text);
  address.token = take_word(text);
  if (is_unix) {
    address.path = text;
  } else {
    const auto port = parse_number<decltype(address.port)>(take_word(text));
    is_valid = is_valid && port;
    address.port = port.value_or(0);
    while (!text.empty()) address.hosts.emplace_back(take_word(text));
  }
  if (!is_valid || (address.path.empty() && address.hosts.empty())) {
    fail(ErrorKind::kUsage, "the environment variable ", kAddressVariable, "=", whole,
         " is not what `dsft launch` sets; unset it");
  }
  return address;
}

}  // namespace dsft::watchdog
