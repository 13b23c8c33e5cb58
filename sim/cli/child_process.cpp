#include "sim/cli/child_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>

extern char** environ;

namespace strait::cli {
namespace {

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

constexpr const char* kParent = "STRAIT_PARENT";  // the process id of the one that started this one

std::filesystem::path own_folder() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}

// Our environment; for programs of ours with the variable that end_with_parent() reads. Others in the
// same folder could hand it on: what sbatch submits would find another parent than that, and end.
std::vector<std::string> environment_of(const std::string& program) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) result.emplace_back(*entry);
  const std::filesystem::path path = program;
  if (path.parent_path() == own_folder() &&
      (path.filename() == "strait" || path.filename() == "strait-sim"))
    result.push_back(std::string(kParent) + "=" + std::to_string(getpid()));
  return result;
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) fail(errno, "pipe");
    read = ends[0];
    write = ends[1];
  }
};

void read_lines(int fd, const std::function<void(const std::string&)>& on_line) {
  std::string pending;
  char buffer[4096];
  for (;;) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    pending.append(buffer, static_cast<size_t>(n));
    size_t begin = 0;
    for (size_t end; (end = pending.find('\n', begin)) != std::string::npos; begin = end + 1)
      on_line(pending.substr(begin, end - begin));
    pending.erase(0, begin);
  }
  if (!pending.empty()) on_line(pending);
}

}  // namespace

ChildProcess::ChildProcess(const std::vector<std::string>& arguments,
                           std::function<void(const std::string&)> on_line,
                           const std::string& errors) {
  signal(SIGPIPE, SIG_IGN);
  signal(SIGCHLD,
         SIG_DFL);  // who started us may have it ignored, and then no child could be waited for
  Pipe in, out;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.read, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out.write, STDOUT_FILENO);
  if (!errors.empty())
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errors.c_str(),
                                     O_WRONLY | O_CREAT | O_TRUNC, 0644);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  posix_spawnattr_setpgroup(&attributes, 0);
  const std::vector<char*> argv = pointers(arguments);
  const std::vector<std::string> variables = environment_of(arguments[0]);
  const int error =
      posix_spawn(&pid_, argv[0], &actions, &attributes, argv.data(), pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  close(in.read);
  close(out.write);
  input_ = in.write;
  output_ = out.read;
  if (error != 0) {
    close(input_);
    close(output_);
    fail(error, "cannot start " + arguments[0]);
  }
  reader_ = std::thread([fd = output_, f = std::move(on_line)] { read_lines(fd, f); });
}

ChildProcess::~ChildProcess() { wait(); }

void ChildProcess::close_input() {
  if (input_ >= 0) close(input_);
  input_ = -1;
}

void ChildProcess::terminate() {
  if (running()) kill(pid_, SIGTERM);
}

void ChildProcess::reap(bool block) {
  int status = 0;
  if (status_ >= 0) return;
  pid_t done;
  do {
    done = waitpid(pid_, &status, block ? 0 : WNOHANG);
  } while (done < 0 && errno == EINTR);
  if (done == pid_) status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool ChildProcess::running() {
  reap(false);
  return status_ < 0;
}

int ChildProcess::wait() {
  close_input();
  if (reader_.joinable()) reader_.join();
  reap(true);
  if (output_ >= 0) close(output_);
  output_ = -1;
  return status_;
}

void end_with_parent() {
  const char* parent = std::getenv(kParent);
  if (parent == nullptr) return;
  const auto pid = static_cast<pid_t>(std::atol(parent));
  unsetenv(kParent);  // it is not for those that we start
  // Sent when the thread that started us ends; such threads wait for their children.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != pid) _exit(128 + SIGKILL);  // it has ended already
}

std::string program_on_path(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::filesystem::path program = std::filesystem::path(folder) / name;
    if (!folder.empty() && access(program.c_str(), X_OK) == 0 &&
        !std::filesystem::is_directory(program))
      return program.string();
  }
  return "";
}

std::string sibling_program(const std::string& name) {
  const std::filesystem::path path = own_folder() / name;
  if (!std::filesystem::exists(path))
    throw std::runtime_error(path.string() +
                             " is missing; it is built and installed together with strait");
  return path.string();
}

}  // namespace strait::cli
