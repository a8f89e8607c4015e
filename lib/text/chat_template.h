#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace dsft::text {

/// JSON in the order in which it was written: chat templates print dictionaries in that order.
using Json = nlohmann::ordered_json;

/// What a chat template is rendered with; the names of transformers' apply_chat_template.
struct ChatInput {
  Json messages = Json::array();  ///< list of {role, content, ...}
  Json tools;                     ///< null, or a list of JSON schemas
  bool add_generation_prompt = false;
  Json kwargs = Json::object();      ///< data.chat_template_kwargs: further variables, words of the recipe's author
  Json row_kwargs = Json::object();  ///< the row's own, which replace those; what they say is text of the row
};

/// A rendered conversation, each byte tagged with where it came from.
///
/// Two numbers tell where a byte belongs. `turn` is the message that was being rendered when the byte was written: the
/// message of the iteration inside `for` over messages (or over a slice, a reversed or filtered copy, a list in a
/// namespace); the message that a macro was given; in a loop over something else (indices), the first message that
/// `set` binds in its body, or else the only message whose data that iteration wrote; in `with`, the message that it
/// binds where there is no turn yet. `message` is the message that the byte was copied from; for words of the template
/// it is the turn in which they were first written. So message and turn differ where a turn shows another message's
/// data (a system prompt inside the first user turn, tool results inside an assistant turn), and both are kNoMessage
/// for words outside of any turn (a preamble, tools, the generation prompt, an end-of-text after the last turn).
///
/// The turn of an assistant message i is thus the run of bytes with turn == i: it starts with the header that is also
/// the generation prompt and holds the stop token if the template writes one in that iteration. Strings keep the tags
/// of their bytes through concatenation, slices, strip, split, replace, join, case changes, tojson, macros, namespaces
/// and set blocks.
struct RenderedChat {
  static constexpr int32_t kNoMessage = -1;

  /// A run of bytes of `text` with one origin.
  struct Span {
    size_t begin = 0;
    size_t end = 0;
    int32_t message =
        kNoMessage;  ///< the message that these bytes were copied from, or in whose turn the template wrote them
    int32_t turn = kNoMessage;  ///< the message that was being rendered when these bytes were written
    bool is_user_text =
        false;  ///< copied from the row (content, tool arguments, tools, documents), not written by the template; a
                ///< role that is a plain word counts as the template's, for templates build "<|" + role + "|>"
    bool is_generation = false;  ///< inside {% generation %}

    bool has_same_origin(const Span& other) const {
      return message == other.message && turn == other.turn && is_user_text == other.is_user_text &&
             is_generation == other.is_generation;
    }
  };

  std::string text;
  std::vector<Span> spans;          ///< cover `text` without gaps, in order
  bool has_generation_tag = false;  ///< the template has {% generation %} at all
};

/// A chat template (Jinja as transformers configures it: trim_blocks, lstrip_blocks, loop controls, tojson,
/// raise_exception, strftime_now). Immutable and safe to share between threads.
class ChatTemplate {
 public:
  /// Parses a template; `name` stands in messages. Throws kCheckpoint with the template's line.
  static ChatTemplate parse(std::string source, std::string name);

  /// The template of a checkpoint, as transformers 5.17 chooses it: `override_file` if not empty; else, of the files
  /// DIR/chat_template.jinja ("default") and DIR/additional_chat_templates/NAME.jinja, or where there is neither, of
  /// "chat_template" in DIR/tokenizer_config.json (a string, or named templates): "tool_use" where `has_tools` and
  /// present, else "default". nullopt where the checkpoint has none.
  static std::optional<ChatTemplate> load(const std::filesystem::path& directory,
                                          const std::filesystem::path& override_file, bool has_tools);

  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;
  ~ChatTemplate();

  /// Renders; `tokenizer` gives bos_token, eos_token and the like. Throws kData with the template's line for
  /// raise_exception, a type error, or a crossed limit (1e6 steps, 4 MB of output besides the row's, 64 MB of that,
  /// recursion 64, 2 s of processor time).
  RenderedChat render(const ChatInput& input, const Tokenizer& tokenizer) const;
  RenderedChat render(const ChatInput& input, const SpecialTokenMap& special_tokens) const;

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
