#include "base/command_line.h"

#include <algorithm>

namespace hora {

std::vector<std::string> with_long_np(int argc, const char* const* argv, std::initializer_list<std::string_view> flags,
                                      CommandFollows command_follows) {
  std::vector<std::string> words(argv + 1, argv + argc);
  for (std::size_t i = 0; i < words.size() && words[i] != "--"; ++i) {
    std::string& word = words[i];
    const bool option = word.size() > 1 && word[0] == '-';
    if (!option && command_follows == CommandFollows::yes) break;
    if (word == "-np" || word.starts_with("-np=")) word.insert(0, 1, '-');
    const bool has_value = word.starts_with("--") ? word.find('=') != word.npos : word.size() > 2;
    if (option && !has_value && std::ranges::find(flags, word) == flags.end()) ++i;  // over the value
  }
  return words;
}

}  // namespace hora
