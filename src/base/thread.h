// Starts the library's own threads: named, without the application's signals, and with memory of their own.
#pragma once

#include <functional>
#include <thread>

namespace hora {

// Runs `body` on a new thread, and returns once that thread can allocate a moderate amount without the kernel: a thread
// that must map memory waits for every other mapping of the process, and an application that fills gigabytes would mute
// it for seconds. Throws std::system_error where no thread can be had.
std::thread start_thread(const char* name, std::function<void()> body);

}  // namespace hora
