#define _GNU_SOURCE
#include "control.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

// A timeline is a file of lines "SECONDS KEY=VALUE...", the seconds counted from when it was loaded; "SECONDS loop" starts over. It is how
// a bandwidth trace or a blackout is played back.
static struct {
  FILE *file;
  uint64_t start, next;
  char line[1024];
} timeline;

static void timeline_read(void) {
  double at;
  do {
    if (fgets(timeline.line, sizeof timeline.line, timeline.file)) continue;
    fclose(timeline.file);
    timeline.file = NULL;
    return;
  } while (sscanf(timeline.line, "%lf", &at) != 1);
  timeline.next = timeline.start + (uint64_t)(at * 1e9);
}

static const char *timeline_load(const char *path) {
  if (timeline.file) fclose(timeline.file);
  timeline.start = now_ns();
  timeline.file = *path ? fopen(path, "re") : NULL;
  if (!timeline.file) return *path ? strerror(errno) : NULL;
  timeline_read();
  return timeline.file ? NULL : "no line of it begins with a number of seconds";
}

const char *link_set(Link *link, const char *word) {
  if (!strncmp(word, "timeline=", 9)) return timeline_load(word + 9);
  unsigned which = !strncmp(word, "ab.", 3) ? 1 : !strncmp(word, "ba.", 3) ? 2 : 3;
  const char *why = NULL;
  for (unsigned i = 0; i < 2 && !why; i++)
    if (which >> i & 1) why = path_set(&link->path[i], which == 3 ? word : word + 3);
  return why;
}

static void timeline_play(Link *link) {
  while (timeline.file && timeline.next <= now_ns()) {
    char *save, *word = strtok_r(timeline.line, " \t\n", &save);   // the time
    while ((word = strtok_r(NULL, " \t\n", &save))) {
      const char *why = NULL;
      // A loop that takes no time would never let go of this thread.
      if (strcmp(word, "loop")) why = link_set(link, word);
      else if (timeline.next < timeline.start + MS) why = "takes 0.001 s at least";
      else rewind(timeline.file), timeline.start = timeline.next;
      if (why) fprintf(stderr, "wanem: timeline: %s: %s\n", word, why);
    }
    timeline_read();
  }
}

// Packets that the kernel dropped, in the thread's own namespace, because nobody read them fast enough.
static uint64_t device_drops(void) {
  FILE *file = fopen("/proc/thread-self/net/dev", "re");
  char line[512];
  unsigned long drops = 0;
  while (file && fgets(line, sizeof line, file)) {
    char *colon = strchr(line, ':');
    if (colon && strstr(line, DEVICE)) sscanf(colon + 1, "%*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %*u %lu", &drops);
  }
  if (file) fclose(file);
  return drops;
}

void link_report(Link *link, char *out, size_t room) {
  size_t at = 0;
#define PUT(...) at += (size_t)snprintf(out + at, at < room ? room - at : 0, __VA_ARGS__)
  PUT("{\"seconds\":%.3f", (double)(now_ns() - link->started) / 1e9);
  for (int i = 0; i < 2; i++) {
    Path *path = &link->path[i];
    pthread_mutex_lock(&path->lock);
    Counters n = path->counters;
    uint64_t queued = path->queued_bytes;
    uint32_t flying = path->flying;
    pthread_mutex_unlock(&path->lock);
    uint64_t drop_in = setns(link->namespace_of[i], CLONE_NEWNET) ? 0 : device_drops();
    double late_mean_ns = n.late_count ? (double)n.late_sum_ns / (double)n.late_count : 0;
    PUT(",\"%s\":{\"rate_mbit\":%.6g,\"delay_ms\":%.6g", path->name, path_get(path, RATE) * 8e-6, path_get(path, DELAY) / MS);
    PUT(",\"packets\":%lu,\"bytes\":%lu", n.packets, n.bytes);
    PUT(",\"drop_loss\":%lu,\"drop_queue\":%lu,\"drop_down\":%lu", n.drop_loss, n.drop_queue, n.drop_down);
    PUT(",\"drop_device\":%lu,\"loss_runs\":%lu,\"reordered\":%lu", drop_in + n.drop_out, n.loss_runs, n.reordered);
    PUT(",\"corrupted\":%lu,\"reads\":%lu,\"queued_bytes\":%lu,\"in_flight\":%u", n.corrupted, n.reads, queued, flying);
    PUT(",\"max_queue_ms\":%.3f,\"late_max_ms\":%.3f", (double)n.queue_max_ns / MS, (double)n.late_max_ns / MS);
    PUT(",\"late_mean_us\":%.1f}", late_mean_ns / 1e3);
  }
  PUT("}\n");
#undef PUT
}

static bool command(Link *link, int client) {  // true: stop
  char in[4096], out[4096] = "ok\n";
  ssize_t bytes = read(client, in, sizeof in - 1);
  if (bytes <= 0) return false;
  in[bytes] = 0;
  bool stop = false;
  char *save;
  for (char *word = strtok_r(in, " \n", &save); word; word = strtok_r(NULL, " \n", &save)) {
    const char *why = NULL;
    if (!strcmp(word, "stop")) stop = true;
    if (stop || !strcmp(word, "stat")) link_report(link, out, sizeof out);
    else why = link_set(link, word);
    if (!why) continue;
    snprintf(out, sizeof out, "error: %s: %s\n", word, why);
    break;
  }
  if (write(client, out, strlen(out)) < 0) perror("wanem: reply");
  return stop;
}

void link_run(Link *link, int server, volatile const int *ending) {
  bool stop = false;
  while (!stop && !*ending) {
    timeline_play(link);
    // Never for long: a signal may come just before the wait begins.
    uint64_t now = now_ns(), next = timeline.file ? timeline.next : UINT64_MAX;
    int wait_ms = next <= now ? 0 : next - now < 100 * MS ? (int)((next - now) / MS) + 1 : 100;
    struct pollfd in = {server, POLLIN, 0};
    if (poll(&in, 1, wait_ms) <= 0) continue;
    int client = accept4(server, NULL, NULL, SOCK_CLOEXEC);
    if (client >= 0) stop = command(link, client), close(client);
  }
}

int socket_at(const char *path, bool listening) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) fprintf(stderr, "wanem: socket path too long\n"), exit(2);
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listening) unlink(path);
  if (listening ? bind(fd, (void *)&address, sizeof address) || listen(fd, 4) : connect(fd, (void *)&address, sizeof address)) die(path);
  return fd;
}
