// What the tools' command lines have in common: -np, as every launcher of ranks has it.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace hora {

// Whether the first word that is no option begins the command line of another program, whose options are its own.
enum class CommandFollows : bool { no, yes };

// The words after argv[0], in which the option -np is --np: CLI11 knows options of one letter or with two dashes. Every
// option but those of `flags` has a value, in the same word (-xVALUE, --name=VALUE) or as the next one, and a value is
// left as it is.
std::vector<std::string> with_long_np(int argc, const char* const* argv, std::initializer_list<std::string_view> flags,
                                      CommandFollows command_follows);

}  // namespace hora
