// Measures this machine's own TCP over an emulated link: the ground truth of docs/validation.md.
// Two network namespaces are joined by two TUN devices and a relay in user space that serialises at
// a rate, delays, and never drops (an unlimited queue). Needs root (namespaces, TUN, real-time
// priority) and an idle machine; nothing outside the process's own namespaces is touched.
//
//   linux_reference RATE_MBPS RTT_MS BYTES GAP_S[,GAP_S...] [cubic] [1500] [both]
//
// sends one message of BYTES, and one more after each gap (seconds from the completion of the one
// before it), over one connection, and prints the seconds from the first write to the last byte
// read, one a line: cold, then after each gap.
// With `both`, a second connection sends the same the other way at the same time, and each line has
// both times.
#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using Nanos = std::chrono::nanoseconds;

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

int checked(int result, const char* what) {
  if (result < 0) fail(what);
  return result;
}

sockaddr_in address(const char* ip, uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  inet_pton(AF_INET, ip, &a.sin_addr);
  return a;
}

// Enters a new network namespace and makes a TUN device in it with an address and a route to
// everything.
int enter_namespace_with_tun(const char* ip, const char* peer, int mtu) {
  checked(unshare(CLONE_NEWNET), "unshare (root is needed)");
  const int tun = checked(open("/dev/net/tun", O_RDWR | O_NONBLOCK), "open /dev/net/tun");
  ifreq request{};
  std::strncpy(request.ifr_name, "tun0", IFNAMSIZ);
  request.ifr_flags = IFF_TUN | IFF_NO_PI;
  checked(ioctl(tun, TUNSETIFF, &request), "TUNSETIFF");
  const int control = checked(socket(AF_INET, SOCK_DGRAM, 0), "socket");
  const sockaddr_in own = address(ip, 0), other = address(peer, 0);
  request.ifr_qlen = 100000;
  checked(ioctl(control, SIOCSIFTXQLEN, &request), "SIOCSIFTXQLEN");
  std::memcpy(&request.ifr_addr, &own, sizeof own);
  checked(ioctl(control, SIOCSIFADDR, &request), "SIOCSIFADDR");
  std::memcpy(&request.ifr_dstaddr, &other, sizeof other);
  checked(ioctl(control, SIOCSIFDSTADDR, &request), "SIOCSIFDSTADDR");
  request.ifr_mtu = mtu;
  checked(ioctl(control, SIOCSIFMTU, &request), "SIOCSIFMTU");
  request.ifr_flags = IFF_UP | IFF_POINTOPOINT | IFF_RUNNING;
  checked(ioctl(control, SIOCSIFFLAGS, &request), "SIOCSIFFLAGS");
  close(control);
  return tun;
}

struct Packet {
  Clock::time_point arrival;
  std::vector<char> data;
};

// One direction: packets leave one after the other at `rate` and arrive `delay` later.
struct Direction {
  int in, out;
  Clock::time_point free{};
  std::deque<Packet> flying{};
};

void relay(Direction forward, Direction backward, double bits_per_second, Nanos delay,
           const std::atomic<bool>& stop) {
  sched_param priority{.sched_priority = 10};
  sched_setscheduler(0, SCHED_FIFO, &priority);
  std::vector<char> buffer(65536);
  while (!stop) {
    for (Direction* d : {&forward, &backward}) {
      for (ssize_t n; (n = read(d->in, buffer.data(), buffer.size())) > 0;) {
        const auto now = Clock::now();
        const Nanos wire(static_cast<int64_t>(static_cast<double>(n) * 8e9 / bits_per_second));
        d->free = std::max(d->free, now) + wire;
        d->flying.push_back({d->free + delay, {buffer.begin(), buffer.begin() + n}});
      }
      while (!d->flying.empty() && d->flying.front().arrival <= Clock::now()) {
        const Packet& p = d->flying.front();
        if (write(d->out, p.data.data(), p.data.size()) < 0 && errno != EAGAIN) return;
        d->flying.pop_front();
      }
    }
    Nanos wait = std::chrono::milliseconds(5);
    for (const Direction* d : {&forward, &backward})
      if (!d->flying.empty())
        wait = std::min(
            wait, std::chrono::duration_cast<Nanos>(d->flying.front().arrival - Clock::now()));
    pollfd fds[2] = {{forward.in, POLLIN, 0}, {backward.in, POLLIN, 0}};
    const timespec timeout{0, std::max<int64_t>(0, wait.count())};
    ppoll(fds, 2, &timeout, nullptr);
  }
}

void set_congestion_control(int fd, const std::string& name) {
  checked(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.c_str(),
                     static_cast<socklen_t>(name.size())),
          "TCP_CONGESTION");
}

// One connection's two ends: `from` writes, `to` reads.
struct Ends {
  int from, to;
};

double transfer(Ends ends, size_t bytes) {
  const std::vector<char> data(std::min<size_t>(bytes, 1 << 20), 'x');
  std::vector<char> sink(1 << 20);
  const auto start = Clock::now();
  std::thread sender([&] {
    for (size_t sent = 0; sent < bytes;) {
      const ssize_t n = send(ends.from, data.data(), std::min(bytes - sent, data.size()), 0);
      if (n <= 0) return;
      sent += static_cast<size_t>(n);
    }
  });
  for (size_t received = 0; received < bytes;)
    received += static_cast<size_t>(
        checked(static_cast<int>(recv(ends.to, sink.data(), sink.size(), 0)), "recv"));
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  sender.join();
  return seconds;
}

void measure(const std::vector<Ends>& connections, size_t bytes, const std::vector<double>& gaps) {
  for (size_t i = 0; i <= gaps.size(); ++i) {
    std::this_thread::sleep_for(std::chrono::duration<double>(i == 0 ? 0.5 : gaps[i - 1]));
    std::vector<double> seconds(connections.size());
    std::vector<std::thread> threads;
    for (size_t c = 0; c < connections.size(); ++c)
      threads.emplace_back([&, c] { seconds[c] = transfer(connections[c], bytes); });
    for (std::thread& thread : threads) thread.join();
    fmt::print("{:.5f}\n", fmt::join(seconds, " "));
  }
}

void run(int argc, char** argv) {
  if (argc < 5)
    throw std::runtime_error(
        "usage: linux_reference RATE_MBPS RTT_MS BYTES GAP_S[,GAP_S...] [cubic] [1500] [both]");
  const double rate = std::stod(argv[1]) * 1e6;
  const Nanos delay(static_cast<int64_t>(std::stod(argv[2]) * 1e6 / 2));
  std::vector<double> gaps;
  for (const char* p = argv[4]; *p;) {
    char* end;
    gaps.push_back(std::strtod(p, &end));
    p = *end == ',' ? end + 1 : end;
  }
  const std::string control = argc > 5 ? argv[5] : "cubic";
  const int mtu = argc > 6 ? std::stoi(argv[6]) : 1500;
  const bool both_ways = argc > 7 && std::string(argv[7]) == "both";

  // Before anything else on the machine: a late relay or reader would count as network time.
  const sched_param priority{.sched_priority = 5};
  checked(sched_setscheduler(0, SCHED_FIFO, &priority), "SCHED_FIFO");

  const int server_tun = enter_namespace_with_tun("10.9.0.1", "10.9.0.2", mtu);
  const int listener = checked(socket(AF_INET, SOCK_STREAM, 0), "socket");
  set_congestion_control(listener, control);
  const sockaddr_in server_address = address("10.9.0.1", 5000);
  checked(bind(listener, reinterpret_cast<const sockaddr*>(&server_address), sizeof server_address),
          "bind");
  checked(listen(listener, 1), "listen");
  const int client_tun = enter_namespace_with_tun("10.9.0.2", "10.9.0.1", mtu);
  std::atomic<bool> stop = false;
  std::thread relaying(relay, Direction{client_tun, server_tun}, Direction{server_tun, client_tun},
                       rate, delay, std::cref(stop));
  std::vector<Ends> connections;
  for (int c = 0; c < (both_ways ? 2 : 1); ++c) {
    const int client = checked(socket(AF_INET, SOCK_STREAM, 0), "socket");
    set_congestion_control(client, control);
    checked(
        connect(client, reinterpret_cast<const sockaddr*>(&server_address), sizeof server_address),
        "connect");
    const int server = checked(accept(listener, nullptr, nullptr), "accept");
    const int on = 1;
    for (const int end : {client, server})
      setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connections.push_back(c == 0 ? Ends{client, server} : Ends{server, client});
  }
  measure(connections, static_cast<size_t>(std::stod(argv[3])), gaps);
  stop = true;
  relaying.join();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argc, argv);
  } catch (const std::exception& e) {
    fmt::print(stderr, "linux_reference: {}\n", e.what());
    return 1;
  }
}
