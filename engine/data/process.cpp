// fork, exec and two pipes, read until both are closed. Between fork and exec only
// async-signal-safe calls are made, so that a process with many threads may use it.
#include "engine/data/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>

extern char** environ;

namespace strait {

namespace {

[[noreturn]] void fail(const std::string& program) {
  throw std::runtime_error(fmt::format("cannot start {}: {}", program, std::strerror(errno)));
}

std::vector<std::string> english_environment() {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable; ++variable) {
    const std::string text = *variable;
    if (!text.starts_with("LC_ALL=")) variables.push_back(text);
  }
  variables.emplace_back("LC_ALL=C");
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (auto& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

// Reads both pipes until the child has closed them.
void collect(std::array<int, 2> descriptors, ProcessResult& result) {
  std::array<pollfd, 2> waiting = {pollfd{descriptors[0], POLLIN, 0},
                                   pollfd{descriptors[1], POLLIN, 0}};
  std::array<std::string*, 2> texts = {&result.output, &result.errors};
  std::array<char, 65536> buffer;
  for (int open = 2; open > 0;) {
    if (::poll(waiting.data(), waiting.size(), -1) < 0 && errno != EINTR) break;
    for (size_t i = 0; i < 2; ++i) {
      if (waiting[i].fd < 0 || waiting[i].revents == 0) continue;
      const ssize_t count = ::read(waiting[i].fd, buffer.data(), buffer.size());
      if (count > 0) texts[i]->append(buffer.data(), static_cast<size_t>(count));
      if (count == 0 || (count < 0 && errno != EINTR)) {
        waiting[i].fd = -1;  // poll skips it
        --open;
      }
    }
  }
}

}  // namespace

ProcessResult run_process(const std::vector<std::string>& arguments,
                          const std::filesystem::path& directory) {
  auto words = arguments;
  auto variables = english_environment();
  const auto argv = pointers(words);
  const auto envp = pointers(variables);
  std::array<int, 2> output, errors;
  if (::pipe2(output.data(), O_CLOEXEC) != 0) fail(arguments[0]);
  if (::pipe2(errors.data(), O_CLOEXEC) != 0) {
    ::close(output[0]), ::close(output[1]);
    fail(arguments[0]);
  }
  const pid_t child = ::fork();
  if (child == 0) {
    const int nothing = ::open("/dev/null", O_RDONLY);
    ::dup2(nothing, 0), ::dup2(output[1], 1), ::dup2(errors[1], 2);
    if (::chdir(directory.c_str()) != 0) ::_exit(126);
    ::execvpe(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  ::close(output[1]), ::close(errors[1]);
  ProcessResult result;
  if (child > 0) collect({output[0], errors[0]}, result);
  ::close(output[0]), ::close(errors[0]);
  if (child < 0) fail(arguments[0]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace strait
