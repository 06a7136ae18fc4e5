#define _GNU_SOURCE
#include "path.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define BIG (65536 + 256)        // the largest packet a TUN device hands over, with its virtio header
#define SLOTS (1u << 18)         // packets that one direction can hold
// Above what the ends of a bench run at (chrt -r 1): the link is there first.
enum { PRIORITY = 2 };

static const struct {
  const char *name;
  double unit, low, high, initial;                  // value x unit is what is kept
} keys[KEYS] = {
  [RATE] = {"rate", 1e6 / 8, 0, 1e6, 0},            // Mbit/s of IP packets, 0: as fast as it goes
  [DELAY] = {"delay", MS, 0, 10000, 0},             // ms, one way
  [JITTER] = {"jitter", MS, 0, 10000, 0},           // ms, up to this much more, order kept
  [QUEUE] = {"queue", 1024, 1, 1e7, 4096},          // KiB in front of the bottleneck
  [BURST] = {"burst", MS, 0, 1000, 1},              // ms at full rate, the depth of the token bucket
  [LOSS] = {"loss", 0.01, 0, 100, 0},               // % of packets, independent
  [GE_P] = {"ge_p", 0.01, 0, 100, 0},               // % chance per packet to go from the good state to the bad one
  [GE_R] = {"ge_r", 0.01, 0, 100, 100},             // % chance per packet to go back
  [GE_LOSS] = {"ge_loss", 0.01, 0, 100, 100},       // % lost while in the bad state
  [REORDER] = {"reorder", 0.01, 0, 100, 0},         // % of packets that come reorder_ms late
  [REORDER_MS] = {"reorder_ms", MS, 0, 10000, 1},
  [CORRUPT] = {"corrupt", 0.01, 0, 100, 0},         // % of packets with one payload bit flipped, unseen by checksums
  [DOWN] = {"down", 1, 0, 1, 0},                    // 1: the link is dead, all that enters is lost
  [HOLD] = {"hold", 1, 0, 1, 0},                    // 1: the link stands still, packets wait in the queue
  [TRIM] = {"trim", MS, 0, 10, 0.1},                // ms that wanem itself takes each way, counted as part of the delay
};

static void *run(void *argument);

void path_make(Path *path, const char *name, uint64_t seed) {
  path->name = name;
  path->random = 0x9e3779b97f4a7c15u * seed;
  path->queue = allocated(calloc(SLOTS, sizeof *path->queue));
  path->heap = allocated(calloc(SLOTS, sizeof *path->heap));
  pthread_mutex_init(&path->lock, NULL);
  for (int key = 0; key < KEYS; key++) path->value[key] = keys[key].initial * keys[key].unit;
}

void path_start(Path *path, int in, int out) {
  pthread_t thread;
  path->in = in, path->out = out;
  if (pthread_create(&thread, NULL, run, path)) die("pthread_create");
}

double path_get(Path *path, int key) { return atomic_load_explicit(&path->value[key], memory_order_relaxed); }

const char *path_set(Path *path, const char *word) {
  const char *equals = strchr(word, '=');
  if (!equals) return "not KEY=VALUE";
  for (int key = 0; key < KEYS; key++) {
    if (strlen(keys[key].name) != (size_t)(equals - word) || strncmp(keys[key].name, word, (size_t)(equals - word))) continue;
    char *end;
    double value = strtod(equals + 1, &end);
    if (end == equals + 1 || *end || !(value >= keys[key].low && value <= keys[key].high)) return "value out of range";
    atomic_store(&path->value[key], value * keys[key].unit);
    return NULL;
  }
  return "no such key";
}

static double chance(Path *path) {  // xorshift64, in [0, 1)
  path->random ^= path->random << 13;
  path->random ^= path->random >> 7;
  path->random ^= path->random << 17;
  return (double)(path->random >> 11) * 0x1p-53;
}

static bool earlier(const Packet *a, const Packet *b) { return a->due != b->due ? a->due < b->due : a->order < b->order; }

static void heap_push(Path *path, Packet *packet) {
  uint32_t at = path->flying++;
  for (; at && earlier(packet, path->heap[(at - 1) / 2]); at = (at - 1) / 2) path->heap[at] = path->heap[(at - 1) / 2];
  path->heap[at] = packet;
}

static Packet *heap_pop(Path *path) {
  Packet *top = path->heap[0], *packet = path->heap[--path->flying];
  uint32_t at = 0, child;
  while ((child = 2 * at + 1) < path->flying) {
    if (child + 1 < path->flying && earlier(path->heap[child + 1], path->heap[child])) child++;
    if (earlier(packet, path->heap[child])) break;
    path->heap[at] = path->heap[child], at = child;
  }
  path->heap[at] = packet;
  return top;
}

// Into the queue, as far as it has room; the rest of a super-packet is dropped.
static void enqueue(Path *path, Packet *packet) {
  if (path_get(path, DOWN) > 0) {
    path->counters.drop_down += packet->segments;
    free(packet);
    return;
  }
  bool is_bounded = path_get(path, RATE) > 0 || path_get(path, HOLD) > 0;
  double room = is_bounded ? path_get(path, QUEUE) - (double)path->queued_bytes : 1e18;
  uint64_t waiting = path->head - path->tail;
  if (waiting == SLOTS || path->flying + packet->segments + waiting >= SLOTS) room = -1;
  // A packet is taken while there is room for its first byte, as most switches do.
  uint32_t each = packet->wire_bytes / packet->segments;
  uint32_t fit = room <= 0 ? 0 : room > packet->wire_bytes ? packet->segments : (uint32_t)room / each + 1;
  if (fit < packet->segments) {
    path->counters.drop_queue += packet->segments - fit;
    Packet *piece = fit ? packet_cut(packet, 0, fit) : NULL;
    free(packet);
    if (!(packet = piece)) return;
  }
  path->queue[path->head++ % SLOTS] = packet;
  path->queued_bytes += packet->wire_bytes;
}

static bool lost(Path *path) {
  double go = chance(path);
  path->bad = path->bad ? go >= path_get(path, GE_R) : go < path_get(path, GE_P);
  bool gone = (path->bad && chance(path) < path_get(path, GE_LOSS)) || chance(path) < path_get(path, LOSS);
  path->counters.drop_loss += gone;
  path->counters.loss_runs += gone && !path->losing;
  return path->losing = gone;
}

static void fly(Path *path, Packet *packet, uint64_t due, bool is_late) {
  double corrupt = path_get(path, CORRUPT);
  uint32_t payload = packet->bytes - VNET - packet->header;
  if (corrupt > 0 && packet->header && payload && chance(path) < corrupt * packet->segments) {
    uint64_t bit = (uint64_t)(chance(path) * payload * 8);
    packet->data[VNET + packet->header + bit / 8] ^= (uint8_t)(1u << (bit & 7));
    path->counters.corrupted++;
  }
  if (is_late) due += (uint64_t)path_get(path, REORDER_MS), path->counters.reordered += packet->segments;
  packet->due = due, packet->order = path->order++;
  heap_push(path, packet);
}

// Off the bottleneck, all of a packet's bytes at once when its last one would be through; then each segment's fate.
static void depart(Path *path, Packet *packet, uint64_t done) {
  double own = path_get(path, TRIM), delay = path_get(path, DELAY);
  uint64_t due = done + (uint64_t)(delay > own ? delay - own : 0);
  double jitter = path_get(path, JITTER), reorder = path_get(path, REORDER);
  if (jitter > 0) due += (uint64_t)(chance(path) * jitter);
  if (due < path->last_due) due = path->last_due;
  path->last_due = due;
  enum { GONE = 1, LATE };
  if (path_get(path, LOSS) <= 0 && path_get(path, GE_P) <= 0 && reorder <= 0) {
    path->bad = path->losing = false;
    fly(path, packet, due, false);
    return;
  }
  int run = 0, fate = 0;         // of the segments [first, at), and of segment at
  for (uint32_t first = 0, at = 0; at <= packet->segments; at++, run = fate) {
    if (at < packet->segments) fate = lost(path) ? GONE : chance(path) < reorder ? LATE : 0;
    if (!at || (at < packet->segments && fate == run)) continue;
    bool is_all = at - first == packet->segments;
    if (run != GONE) fly(path, is_all ? packet : packet_cut(packet, first, at - first), due, run == LATE);
    if (is_all && run != GONE) return;
    first = at;
  }
  free(packet);
}

// Moves packets from the queue to the wire, up to the present; returns when the next one may go. Time on the link is reckoned, not slept,
// so a thread that wakes late loses no capacity; the bucket's depth lets a link that stood idle for that reason catch up.
static uint64_t serve(Path *path, uint64_t now) {
  while (path->head != path->tail) {
    Packet *packet = path->queue[path->tail % SLOTS];
    double rate = path_get(path, RATE);
    if (path_get(path, HOLD) > 0) {
      path->link_free = now;
      return UINT64_MAX;
    }
    uint64_t credit = (uint64_t)path_get(path, BURST), floor = packet->arrived > credit ? packet->arrived - credit : 0;
    uint64_t start = path->link_free > floor ? path->link_free : floor;
    if (start > now) return start;
    path->link_free = start + (rate > 0 ? (uint64_t)(packet->wire_bytes * 1e9 / rate) : 0);
    uint64_t waited = start > packet->arrived ? start - packet->arrived : 0;
    if (waited > path->counters.queue_max_ns) path->counters.queue_max_ns = waited;
    path->tail++;
    path->queued_bytes -= packet->wire_bytes;
    depart(path, packet, path->link_free > packet->arrived ? path->link_free : packet->arrived);
  }
  return UINT64_MAX;
}

static uint64_t deliver(Path *path) {  // returns when the next packet is due
  Counters *counters = &path->counters;
  uint64_t now = now_ns();
  while (path->flying && path->heap[0]->due <= now) {
    Packet *packet = heap_pop(path);
    uint64_t late = now - packet->due;
    if (late > counters->late_max_ns) counters->late_max_ns = late;
    counters->late_sum_ns += late, counters->late_count++;
    if (write(path->out, packet->data, packet->bytes) < 0) counters->drop_out += packet->segments;
    else counters->packets += packet->segments, counters->bytes += packet->wire_bytes;
    free(packet);
    now = now_ns();
  }
  return path->flying ? path->heap[0]->due : UINT64_MAX;
}

static void receive(Path *path) {
  static _Thread_local Packet *spare;
  for (int reads = 0; reads < 32; reads++) {
    if (!spare) spare = allocated(malloc(sizeof *spare + BIG));
    Packet *packet = spare;
    ssize_t bytes = read(path->in, packet->data, BIG);
    if (bytes <= (ssize_t)VNET) {
      if (bytes < 0 && errno != EAGAIN && errno != EINTR) die("read " DEVICE);
      return;
    }
    if (bytes < 8192) {          // keep the big buffer, copy the small packet
      packet = allocated(malloc(sizeof *packet + (size_t)bytes));
      memcpy(packet->data, spare->data, (size_t)bytes);
    } else {
      packet = allocated(realloc(spare, sizeof *packet + (size_t)bytes)), spare = NULL;
    }
    packet->bytes = (uint32_t)bytes, packet->arrived = now_ns();
    path->counters.reads++;
    packet_measure(packet);
    serve(path, packet->arrived);
    enqueue(path, packet);
  }
}

static void *run(void *argument) {
  Path *path = argument;
  prctl(PR_SET_TIMERSLACK, 1);
  // A link does not wait for its turn on a busy machine; where this is not allowed, late_*_ms in the report tells.
  pthread_setschedparam(pthread_self(), SCHED_RR, &(struct sched_param){.sched_priority = PRIORITY});
  for (;;) {
    pthread_mutex_lock(&path->lock);
    receive(path);
    uint64_t next = serve(path, now_ns()), due = deliver(path), now = now_ns();
    pthread_mutex_unlock(&path->lock);
    if (due < next) next = due;
    if (next > now + 10 * MS) next = now + 10 * MS;  // a change of parameters is seen within 10 ms
    uint64_t rest = next > now ? next - now : 0;
    struct timespec wait = {(time_t)(rest / 1000000000u), (long)(rest % 1000000000u)};
    struct pollfd in = {path->in, POLLIN, 0};
    ppoll(&in, 1, &wait, NULL);
  }
  return NULL;
}
