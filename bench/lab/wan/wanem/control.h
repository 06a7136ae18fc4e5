// What a link is told while it runs, and what it tells: words over a unix socket, a timeline that is played back, a report.
#pragma once
#include "path.h"

typedef struct {
  Path path[2];                  // ab, ba
  int namespace_of[2];           // that each one's TUN device is in
  uint64_t started;
} Link;

// WORD is [ab.|ba.]KEY=VALUE for one direction or both, or timeline=FILE. Returns NULL, or what is wrong with it.
const char *link_set(Link *link, const char *word);
// Counters as one line of JSON.
void link_report(Link *link, char *out, size_t room);
// Serves the socket and plays the timeline until told to stop, or until *ending is set.
void link_run(Link *link, int server, volatile const int *ending);

int socket_at(const char *path, bool listening);
