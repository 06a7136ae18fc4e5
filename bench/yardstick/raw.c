/*
 * The yardstick: blocking sockets that move scattered blocks between two pools with writev and readv, straight out of memory and into it,
 * one thread a lane, no checksum, an acknowledgement of 8 bytes behind the last byte placed. What plain C reaches here.
 *
 *   raw server POOL_BYTES                                           prints its port, serves until it is killed
 *   raw client PORT POOL_BYTES SERVER_PID LANES BLOCK BATCH SECONDS prints one JSON line; writes whole requests, one after the other
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { LANES_MAX = 64, PIECES_AT_ONCE = 512, SAMPLES_MAX = 1 << 20, BLOCKS_MAX = 1 << 20 };

typedef struct { uint64_t count, bytes; } Request;
typedef struct { int socket; uint64_t *from, *to; Request request; } Lane;

static uint8_t *pool;
static Lane lanes[LANES_MAX];
static int lane_count;
static pthread_barrier_t begin, end;

static void fail(const char *what) {
  perror(what);
  _exit(1);
}

static double clock_seconds(clockid_t clock) {
  struct timespec time;
  if (clock_gettime(clock, &time)) fail("clock");
  return time.tv_sec + time.tv_nsec * 1e-9;
}

/* CPU time of a whole process: clock_getcpuclockid's arithmetic. */
static double cpu_seconds(int process) { return clock_seconds((clockid_t)((~(unsigned)process) << 3 | 2)); }

/* All of it, or 0 when the other end is gone. */
static int transfer(int socket, void *bytes, size_t count, int sending) {
  for (uint8_t *at = bytes; count > 0;) {
    ssize_t moved = sending ? send(socket, at, count, MSG_NOSIGNAL) : recv(socket, at, count, 0);
    if (moved <= 0) return 0;
    at += moved;
    count -= moved;
  }
  return 1;
}

static int move_blocks(int socket, const uint64_t *offsets, Request request, int sending) {
  struct iovec pieces[PIECES_AT_ONCE];
  for (uint64_t done = 0; done < request.count;) {
    int left = 0;
    for (; left < PIECES_AT_ONCE && done < request.count; left++, done++) {
      pieces[left] = (struct iovec){pool + offsets[done], request.bytes};
    }
    for (struct iovec *piece = pieces; left > 0;) {
      ssize_t moved = sending ? writev(socket, piece, left) : readv(socket, piece, left);
      if (moved <= 0) return 0;
      for (; left > 0 && (size_t)moved >= piece->iov_len; piece++, left--) moved -= piece->iov_len;
      if (left > 0) {
        piece->iov_base = (uint8_t *)piece->iov_base + moved;
        piece->iov_len -= moved;
      }
    }
  }
  return 1;
}

static void make_pool(size_t bytes, int fill) {
  pool = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pool == MAP_FAILED) fail("pool");
  memset(pool, fill, bytes);
}

static void *serve_lane(void *argument) {
  int socket = (int)(intptr_t)argument;
  uint64_t *offsets = malloc(BLOCKS_MAX * sizeof *offsets), placed = 1;
  Request request;
  while (transfer(socket, &request, sizeof request, 0) && request.count <= BLOCKS_MAX &&
         transfer(socket, offsets, request.count * sizeof *offsets, 0) && move_blocks(socket, offsets, request, 0)) {
    if (!transfer(socket, &placed, sizeof placed, 1)) break;
  }
  close(socket);
  free(offsets);
  return NULL;
}

static void serve(size_t pool_bytes) {
  make_pool(pool_bytes, 0);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
  if (bind(listener, (void *)&address, size) || listen(listener, LANES_MAX)) fail("listen");
  getsockname(listener, (void *)&address, &size);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (;;) {
    int peer = accept(listener, NULL, NULL);
    if (peer < 0) fail("accept");
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    pthread_t thread;
    pthread_create(&thread, NULL, serve_lane, (void *)(intptr_t)peer);
    pthread_detach(thread);
  }
}

/* One lane's share of a request: offsets at the other end first, then the bytes, then wait until they are placed. */
static void push(Lane *lane) {
  uint64_t placed;
  struct iovec head[2] = {{&lane->request, sizeof lane->request}, {lane->to, lane->request.count * sizeof *lane->to}};
  if (writev(lane->socket, head, 2) != (ssize_t)(head[0].iov_len + head[1].iov_len)) fail("head");
  if (!move_blocks(lane->socket, lane->from, lane->request, 1)) fail("blocks");
  if (!transfer(lane->socket, &placed, sizeof placed, 0)) fail("acknowledgement");
}

static void *run_lane(void *argument) {
  for (Lane *lane = argument;;) {
    pthread_barrier_wait(&begin);
    if (lane->request.count > 0) push(lane);
    pthread_barrier_wait(&end);
  }
}

static void push_request(uint64_t *from, uint64_t *to, Request request) {
  for (int index = 0; index < lane_count; index++) {
    uint64_t first = request.count * index / lane_count, past = request.count * (index + 1) / lane_count;
    lanes[index].from = from + first;
    lanes[index].to = to + first;
    lanes[index].request = (Request){past - first, request.bytes};
  }
  /* One block goes over one lane: no other thread needs to wake. */
  if (request.count == 1) return push(&lanes[lane_count - 1]);
  pthread_barrier_wait(&begin);
  pthread_barrier_wait(&end);
}

static uint64_t *scattered(uint64_t slots, uint64_t bytes, unsigned seed) {
  uint64_t *offsets = malloc(slots * sizeof *offsets);
  for (uint64_t index = 0; index < slots; index++) offsets[index] = index * bytes;
  for (uint64_t index = slots - 1; index > 0; index--) {
    uint64_t other = ((uint64_t)rand_r(&seed) << 15 ^ rand_r(&seed)) % (index + 1), kept = offsets[index];
    offsets[index] = offsets[other];
    offsets[other] = kept;
  }
  return offsets;
}

static int compare(const void *left, const void *right) {
  double a = *(const double *)left, b = *(const double *)right;
  return a < b ? -1 : a > b;
}

static void connect_lanes(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int yes = 1;
  pthread_barrier_init(&begin, NULL, lane_count + 1);
  pthread_barrier_init(&end, NULL, lane_count + 1);
  for (int index = 0; index < lane_count; index++) {
    lanes[index].socket = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(lanes[index].socket, (void *)&address, sizeof address)) fail("connect");
    setsockopt(lanes[index].socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    pthread_t thread;
    pthread_create(&thread, NULL, run_lane, &lanes[index]);
  }
}

static void measure(size_t pool_bytes, int server, Request request, double seconds) {
  uint64_t slots = pool_bytes / request.bytes, at = 0, requests = 0;
  uint64_t *from = scattered(slots, request.bytes, 1), *to = scattered(slots, request.bytes, 2);
  double *samples = malloc(SAMPLES_MAX * sizeof *samples), spent = 0;
  for (int warm = 0; warm < 2; warm++) push_request(from, to, request);
  double cpu = cpu_seconds(getpid()) + cpu_seconds(server);
  for (double stop = clock_seconds(CLOCK_MONOTONIC) + seconds; requests < SAMPLES_MAX; requests++) {
    double start = clock_seconds(CLOCK_MONOTONIC);
    if (requests > 0 && start >= stop) break;
    if (at + request.count > slots) at = 0;
    push_request(from + at, to + at, request);
    at += request.count;
    spent += samples[requests] = clock_seconds(CLOCK_MONOTONIC) - start;
  }
  cpu = cpu_seconds(getpid()) + cpu_seconds(server) - cpu;
  qsort(samples, requests, sizeof *samples, compare);
  double bytes = (double)request.bytes * request.count * requests;
  printf("{\"requests\":%lu,\"bits_per_second\":%.0f,\"cpu_seconds_per_gib\":%.4f,\"p50_us\":%.2f,\"p99_us\":%.2f}\n", requests,
         bytes * 8 / spent, cpu / (bytes / 1073741824.0), samples[requests / 2] * 1e6, samples[requests * 99 / 100] * 1e6);
}

int main(int count, char **arguments) {
  if (count == 3 && !strcmp(arguments[1], "server")) serve(strtoull(arguments[2], NULL, 10));
  if (count != 9 || strcmp(arguments[1], "client")) return 2;
  size_t pool_bytes = strtoull(arguments[3], NULL, 10);
  Request request = {strtoull(arguments[7], NULL, 10), strtoull(arguments[6], NULL, 10)};
  lane_count = atoi(arguments[5]);
  if (lane_count < 1 || lane_count > LANES_MAX || request.count < 1 || request.count > BLOCKS_MAX || request.bytes < 1) return 2;
  if (request.count * request.bytes > pool_bytes) return 2;
  make_pool(pool_bytes, 7);
  connect_lanes(atoi(arguments[2]));
  measure(pool_bytes, atoi(arguments[4]), request, atof(arguments[8]));
  return 0;
}
