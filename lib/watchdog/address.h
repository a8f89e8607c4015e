#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace dsft::watchdog {

/// Where a launcher listens: a socket file for the ranks of its own machine, or a port of its network addresses.
struct Address {
  std::string path;                ///< of a Unix socket; empty: TCP
  std::vector<std::string> hosts;  ///< numeric, each of the launcher's machine
  int port = 0;
  std::string token;  ///< a rank sends it first, so that strangers are not taken for ranks

  bool operator==(const Address&) const = default;
};

/// For an environment variable.
std::string to_text(const Address& address);

/// Throws kUsage where the text is none of to_text().
Address parse_address(std::string_view text);

}  // namespace dsft::watchdog
