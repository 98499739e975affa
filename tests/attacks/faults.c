/* Preloaded before the C library (LD_PRELOAD): counts everything that changes a file below one folder, and at the event
 * that was asked for kills the process or says that the disk is full. Python, HDF5 and TensorStore all pass through here.
 *
 * A write that is chosen for a kill is cut in half first, so that files are torn in the middle of what they hold.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT = 0, KILL = -1 }; /* any other mode is the errno that every write from the chosen event on returns */

static char folder[PATH_MAX];
static size_t folder_length;
static long chosen;
static int mode;
static atomic_long events;
static int trace = -1;

/* Where to write a line for every event, its operation and its path, and one more for one that fails; -1 for nowhere. */
void faults_trace(int descriptor) { trace = descriptor; }

/* Watches a folder (absolute, no link in it) from now on; an empty one ends it. Event numbers begin at 1. */
void faults_arm(const char *path, long event, int how) {
  folder_length = 0;
  snprintf(folder, sizeof folder, "%s", path);
  chosen = event;
  mode = how;
  atomic_store(&events, 0);
  folder_length = strlen(folder);
}

static _Thread_local char last[2 * PATH_MAX]; /* the path that was watched last, for the trace */

static int inside(const char *path) {
  if (strncmp(path, folder, folder_length) || (path[folder_length] != '/' && path[folder_length])) return 0;
  if (trace >= 0) snprintf(last, sizeof last, "%s", path);
  return 1;
}

static int watched_path(int directory, const char *path) {
  char link[64], whole[PATH_MAX + NAME_MAX + 2];
  if (!folder_length || !path) return 0;
  if (path[0] == '/') return inside(path);
  if (directory == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
  else snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
  ssize_t n = readlink(link, whole, PATH_MAX);
  if (n < 0) return 0;
  snprintf(whole + n, sizeof whole - n, "/%s", path);
  return inside(whole);
}

static int watched_descriptor(int descriptor) {
  char link[64], path[PATH_MAX + 1];
  if (!folder_length) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  ssize_t n = readlink(link, path, PATH_MAX);
  if (n < 0) return 0;
  path[n] = 0;
  return inside(path);
}

/* What an event asks of the disk: a full one renames, and writes once more over what it holds already. */
enum need { RENAMES, OVERWRITES, GROWS };

static enum need need_of(int descriptor, off_t at, size_t n) {
  struct stat status;
  if (fstat(descriptor, &status)) return GROWS;
  off_t end = at + (off_t)n;
  return end <= status.st_size && end <= 512 * (off_t)status.st_blocks ? OVERWRITES : GROWS;
}

/* Counts an event; whether it is the one to die at. */
static int reached(const char *operation, enum need need, int *failure) {
  if (trace >= 0) dprintf(trace, "%s %s\n", operation, last);
  long now = atomic_fetch_add(&events, 1) + 1;
  *failure = (mode > 0 && need >= (mode == ENOSPC ? GROWS : OVERWRITES) && now >= chosen) ? mode : 0;
  if (*failure && trace >= 0) dprintf(trace, "refused %s\n", last);
  return mode == KILL && now == chosen;
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define GUARD(operation, watched, need, failed)  \
  if (watched) {                       \
    int failure;                       \
    if (reached(operation, need, &failure)) die(); \
    if (failure) {                     \
      errno = failure;                 \
      return failed;                   \
    }                                  \
  }

#define WRITES(flags) ((flags) & (O_CREAT | O_TRUNC) && ((flags) & O_ACCMODE) != O_RDONLY)

#define OPEN(name)                                                        \
  int name(const char *path, int flags, ...) {                            \
    va_list more;                                                         \
    va_start(more, flags);                                                \
    mode_t permissions = va_arg(more, mode_t);                            \
    va_end(more);                                                         \
    GUARD("create", WRITES(flags) && watched_path(AT_FDCWD, path), GROWS, -1)           \
    return REAL(name)(path, flags, permissions);                          \
  }
#define OPENAT(name)                                                      \
  int name(int directory, const char *path, int flags, ...) {             \
    va_list more;                                                         \
    va_start(more, flags);                                                \
    mode_t permissions = va_arg(more, mode_t);                            \
    va_end(more);                                                         \
    GUARD("create", WRITES(flags) && watched_path(directory, path), GROWS, -1)          \
    return REAL(name)(directory, path, flags, permissions);               \
  }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int descriptor, const void *bytes, size_t n) {
  if (watched_descriptor(descriptor)) {
    int failure;
    if (reached("write", need_of(descriptor, lseek(descriptor, 0, SEEK_CUR), n), &failure)) {
      REAL(write)(descriptor, bytes, n / 2);
      die();
    }
    if (failure) return errno = failure, -1;
  }
  return REAL(write)(descriptor, bytes, n);
}

#define PWRITE(name, offset_type)                                               \
  ssize_t name(int descriptor, const void *bytes, size_t n, offset_type at) {   \
    if (watched_descriptor(descriptor)) {                                       \
      int failure;                                                              \
      if (reached("write", need_of(descriptor, at, n), &failure)) {             \
        REAL(name)(descriptor, bytes, n / 2, at);                               \
        die();                                                                  \
      }                                                                         \
      if (failure) return errno = failure, -1;                                  \
    }                                                                           \
    return REAL(name)(descriptor, bytes, n, at);                                \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int descriptor, const struct iovec *parts, int n) {
  GUARD("write", watched_descriptor(descriptor), GROWS, -1)
  return REAL(writev)(descriptor, parts, n);
}

int ftruncate(int descriptor, off_t size) {
  GUARD("truncate", watched_descriptor(descriptor), GROWS, -1)
  return REAL(ftruncate)(descriptor, size);
}
int ftruncate64(int descriptor, off64_t size) {
  GUARD("truncate", watched_descriptor(descriptor), GROWS, -1)
  return REAL(ftruncate64)(descriptor, size);
}
int mkdir(const char *path, mode_t permissions) {
  GUARD("mkdir", watched_path(AT_FDCWD, path), GROWS, -1)
  return REAL(mkdir)(path, permissions);
}
int rename(const char *from, const char *to) {
  GUARD("rename", watched_path(AT_FDCWD, to), RENAMES, -1)
  return REAL(rename)(from, to);
}
int renameat(int from_directory, const char *from, int to_directory, const char *to) {
  GUARD("rename", watched_path(to_directory, to), RENAMES, -1)
  return REAL(renameat)(from_directory, from, to_directory, to);
}
int unlink(const char *path) {
  GUARD("unlink", watched_path(AT_FDCWD, path), RENAMES, -1)
  return REAL(unlink)(path);
}
int unlinkat(int directory, const char *path, int flags) {
  GUARD("unlink", watched_path(directory, path), RENAMES, -1)
  return REAL(unlinkat)(directory, path, flags);
}
int rmdir(const char *path) {
  GUARD("unlink", watched_path(AT_FDCWD, path), RENAMES, -1)
  return REAL(rmdir)(path);
}
