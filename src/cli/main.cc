#include <cstdio>
#include <cstring>

#include "cli/commands.h"

int main(int argc, char** argv) {
  if (argc >= 2 && std::strcmp(argv[1], "run") == 0) return hora::cli::run_command(argc - 1, argv + 1);
  std::fputs("usage: hora run -np N CMD...\n", stderr);
  return 2;
}
