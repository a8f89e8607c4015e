// Hidden: scripts/parity/chat_templates.py calls it to render many conversations in one process.
#include <cstdlib>
#include <fstream>
#include <string>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "text/chat_template.h"

TEST_CASE("Requests of the parity script are answered line by line", "[.][chat_template_requests]") {
  const char* requests = std::getenv("DSFT_CHAT_REQUESTS");
  const char* answers = std::getenv("DSFT_CHAT_ANSWERS");
  REQUIRE(requests);
  REQUIRE(answers);
  std::ifstream in(requests);
  std::ofstream out(answers);
  for (std::string line; std::getline(in, line);) {
    const auto request = dsft::text::Json::parse(line);
    dsft::text::Json answer;
    try {
      const auto chat_template = dsft::text::ChatTemplate::parse(request["template"], request["name"]);
      dsft::text::SpecialTokenMap tokens;
      for (const auto& [name, token] : request["special_tokens"].items()) tokens.emplace_back(name, token);
      const dsft::text::ChatInput input{request["messages"], request["tools"], request["add_generation_prompt"],
                                        request["kwargs"]};
      const auto chat = chat_template.render(input, tokens);
      answer["text"] = chat.text;
      for (const auto& s : chat.spans)
        answer["spans"].push_back({s.begin, s.end, s.message, s.turn, s.is_user_text, s.is_generation});
    } catch (const dsft::Error& error) {
      answer["error"] = error.message();
    }
    out << answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  }
}
