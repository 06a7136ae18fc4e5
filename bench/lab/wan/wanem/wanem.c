// wanem: one WAN link between two network namespaces, in user space, over two TUN devices.
//
//   wanem NS_A NS_B SOCKET [KEY=VALUE...]   runs the link until told to stop, then prints its counters as JSON
//   wanem -c SOCKET WORD...                 talks to a running link: KEY=VALUE..., or "stat", or "stop"
//
// Each direction (ab, ba) is one thread and one path (path.h). The TUN devices carry segmentation offload, so one read may bring 64 KiB of
// TCP. Rate, queue and loss still count the packets of MTU size that a wire would carry: such a super-packet is cut where one of its
// segments is lost.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "control.h"

static int client(int count, char **words) {
  int fd = socket_at(words[2], false);
  char text[4096] = "";
  size_t at = 0;
  for (int i = 3; i < count && at < sizeof text; i++) at += (size_t)snprintf(text + at, sizeof text - at, "%s ", words[i]);
  if (write(fd, text, strlen(text)) < 0) die("wanem: write");
  ssize_t bytes = read(fd, text, sizeof text);
  if (bytes <= 0) return 1;
  bool failed = !strncmp(text, "error", 5);
  fwrite(text, 1, (size_t)bytes, failed ? stderr : stdout);
  return failed;
}

static int tun_open(const char *namespace, int *namespace_out) {
  char path[256];
  snprintf(path, sizeof path, "/var/run/netns/%s", namespace);
  if ((*namespace_out = open(path, O_RDONLY | O_CLOEXEC)) < 0) die(path);
  if (setns(*namespace_out, CLONE_NEWNET)) die("setns");
  int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) die("/dev/net/tun");
  struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR};
  strcpy(request.ifr_name, DEVICE);
  if (ioctl(fd, TUNSETIFF, &request)) die("TUNSETIFF");
  if (ioctl(fd, TUNSETOFFLOAD, getenv("WANEM_NO_GSO") ? TUN_F_CSUM : TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN))
    die("TUNSETOFFLOAD");
  return fd;
}

static volatile sig_atomic_t ending;
static void on_signal(int number) { ending = number; }

int main(int count, char **words) {
  if (count >= 4 && !strcmp(words[1], "-c")) return client(count, words);
  if (count < 4) return fprintf(stderr, "usage: wanem NS_A NS_B SOCKET [KEY=VALUE...] | wanem -c SOCKET WORD...\n"), 2;
  struct sigaction act = {.sa_handler = on_signal};
  sigaction(SIGTERM, &act, NULL);
  sigaction(SIGINT, &act, NULL);
  signal(SIGPIPE, SIG_IGN);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);    // packets come from the heap, and the heap is kept
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  static Link link;
  int server = socket_at(words[3], true);
  link.started = now_ns();
  uint64_t seed = getenv("WANEM_SEED") ? strtoull(getenv("WANEM_SEED"), NULL, 10) : 0;
  for (int i = 0; i < 2; i++) path_make(&link.path[i], i ? "ba" : "ab", seed + (uint64_t)i + 1);
  for (int i = 4; i < count; i++) {
    const char *why = link_set(&link, words[i]);
    if (why) return fprintf(stderr, "wanem: %s: %s\n", words[i], why), 2;
  }
  // Only now: who waits for the devices finds a link behind them.
  int fd[2] = {tun_open(words[1], &link.namespace_of[0]), tun_open(words[2], &link.namespace_of[1])};
  for (int i = 0; i < 2; i++) path_start(&link.path[i], fd[i], fd[!i]);
  link_run(&link, server, &ending);
  char out[4096];
  link_report(&link, out, sizeof out);
  fputs(out, stdout);
  unlink(words[3]);
  return 0;
}
