#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace dsft::text {

/// JSON in the order in which it was written: chat templates print dictionaries in that order.
using Json = nlohmann::ordered_json;

/// What a chat template is rendered with; the names of transformers' apply_chat_template.
struct ChatInput {
  Json messages = Json::array();   ///< list of {role, content, ...}
  Json tools;                      ///< null, or a list of JSON schemas
  bool add_generation_prompt = false;
  Json kwargs = Json::object();    ///< chat_template_kwargs: further variables of the template
};

/// A rendered conversation, each byte tagged with where it came from.
struct RenderedChat {
  static constexpr int32_t kNoMessage = -1;

  /// A run of bytes of `text` with one origin.
  struct Span {
    size_t begin = 0;
    size_t end = 0;
    int32_t message = kNoMessage;   ///< index of the message that these bytes were copied from; kNoMessage: the template's own words
    bool is_user_text = false;      ///< copied from the row's data (content, tool arguments), not written by the template
    bool is_generation = false;     ///< inside {% generation %}
  };

  std::string text;
  std::vector<Span> spans;          ///< cover `text` without gaps, in order
  bool has_generation_tag = false;  ///< the template has {% generation %} at all
};

/// A chat template (Jinja as transformers configures it: trim_blocks, lstrip_blocks, loop controls, tojson, raise_exception, strftime_now).
/// Immutable and safe to share between threads.
class ChatTemplate {
 public:
  /// Parses a template; `name` stands in messages. Throws kCheckpoint with the template's line.
  static ChatTemplate parse(std::string source, std::string name);

  /// The template of a checkpoint: `override_file` if not empty, else DIR/chat_template.jinja, else "chat_template" of DIR/tokenizer_config.json (a
  /// string, or a list of {name, template}: "tool_use" where `has_tools` and present, else "default"). nullopt where the checkpoint has none.
  static std::optional<ChatTemplate> load(const std::filesystem::path& directory, const std::filesystem::path& override_file, bool has_tools);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// Renders; `tokenizer` gives bos_token, eos_token and the like. Throws kData with the template's line for raise_exception, a type error, or a
  /// crossed limit (1e6 steps, 4 MB of output, recursion 64, 2 s).
  RenderedChat render(const ChatInput& input, const Tokenizer& tokenizer) const;

  /// Whether the template reads this top-level variable ("tools") anywhere.
  bool reads_variable(std::string_view name) const;
  /// Whether the template reads this attribute or key ("tool_calls") of anything.
  bool reads_attribute(std::string_view name) const;

  const std::string& source() const;

 private:
  struct State;
  explicit ChatTemplate(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace dsft::text
