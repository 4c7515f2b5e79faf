/* Sees every change that a process makes below one folder, whichever library makes it.

   Loaded by LD_PRELOAD and idle until `campaign_arm` is called. Then, before a change is made, it is counted, and
   before the change of a chosen number, or before each if that is -1, the process gets a signal. Writes are counted apart: when the signal comes
   in a write, half of it has been done. After a change it is logged: operation, inode, size, path, second path, with tabs between, one line each.
   Once `full_after` bytes were written, everything that needs space fails with `full_errno`. Forked children
   share the count. Not seen: system calls made without the C library, as safetensors' last rename is, writes by
   mmap, and those of C's own streams. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct shared { long changes, writes, bytes; };
static struct shared *shared;
static char prefix[PATH_MAX], saved[PATH_MAX];
static size_t prefix_length;
static long signal_at, in_write, full_after;
static int signal_number, full_errno, log_fd = -1;
static pid_t leader;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

void campaign_arm(const char *folder, long at, long write_number, int number, int log, const char *links,
                  long full, int error) {
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) abort();
  snprintf(saved, sizeof saved, "%s", links);
  signal_at = at; in_write = write_number; signal_number = number; log_fd = log; full_after = full; full_errno = error;
  leader = getpid();
  prefix_length = (size_t)snprintf(prefix, sizeof prefix, "%s", folder); /* from here on it is armed */
}

static int of_fd(int fd, char *path) {
  char link[40];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return 1;
}

static int at(int folder, const char *name, char *path) {
  char base[PATH_MAX];
  if (name[0] == '/') return snprintf(path, PATH_MAX, "%s", name) < PATH_MAX;
  if (folder == AT_FDCWD ? !getcwd(base, sizeof base) : !of_fd(folder, base)) return 0;
  return snprintf(path, PATH_MAX, "%s/%s", base, name) < PATH_MAX;
}

static int watched(const char *path) {
  return prefix_length && !strncmp(path, prefix, prefix_length) &&
         (path[prefix_length] == '/' || !path[prefix_length]);
}

static void hit(void) {
  /* A stop that is sent to the process may reach it when this thread has already made the change. */
  if (signal_number == SIGSTOP && getpid() == leader) raise(SIGSTOP);
  else kill(leader, signal_number);
  if (signal_number == SIGKILL) { kill(getpid(), SIGKILL); for (;;) pause(); }
}

static void before(void) {
  long number = __atomic_add_fetch(&shared->changes, 1, __ATOMIC_SEQ_CST);
  if (signal_at == -1 || number == signal_at) hit();
}

static void note(const char *what, const char *path, const char *other) {
  char line[2 * PATH_MAX + 80];
  struct stat found = {0};
  int error = errno;
  if (log_fd < 0) return;
  lstat(other ? other : path, &found);
  int length = snprintf(line, sizeof line, "%s\t%lu\t%ld\t%s\t%s\n", what, (unsigned long)found.st_ino,
                        (long)found.st_size, path, other ? other : "");
  if (REAL(write)(log_fd, line, (size_t)length) < 0) abort();
  errno = error;
}

static void keep(const char *path) { /* what is about to lose its name */
  char link_path[PATH_MAX + 24];
  struct stat found;
  if (!saved[0] || lstat(path, &found) || S_ISDIR(found.st_mode)) return;
  snprintf(link_path, sizeof link_path, "%s/%lu", saved, (unsigned long)found.st_ino);
  REAL(link)(path, link_path);
}

static int full(void) {
  if (!full_errno || shared->bytes < full_after) return 0;
  errno = full_errno;
  return 1;
}

static int opened(int folder, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  int (*next)(int, const char *, int, ...) = REAL(openat);
  if ((flags & O_ACCMODE) == O_RDONLY || !prefix_length || !at(folder, name, path) || !watched(path))
    return next(folder, name, flags, mode);
  int there = !access(path, F_OK);
  before();
  if (!there && full()) return -1;
  int fd = next(folder, name, flags, mode);
  if (fd >= 0) note(!there ? "create" : flags & O_TRUNC ? "truncate" : "open", path, NULL);
  return fd;
}

#define OPEN(name)                                        \
  int name(const char *path, int flags, ...) {            \
    va_list rest; va_start(rest, flags);                  \
    mode_t mode = va_arg(rest, mode_t); va_end(rest);     \
    return opened(AT_FDCWD, path, flags, mode);           \
  }
#define OPENAT(name)                                      \
  int name(int folder, const char *path, int flags, ...) {\
    va_list rest; va_start(rest, flags);                  \
    mode_t mode = va_arg(rest, mode_t); va_end(rest);     \
    return opened(folder, path, flags, mode);             \
  }
#define CREAT(name) \
  int name(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64) CREAT(creat) CREAT(creat64)

#define FOPEN(name)                                                                          \
  FILE *name(const char *given, const char *mode) {                                          \
    char path[PATH_MAX];                                                                     \
    FILE *(*next)(const char *, const char *) = real(#name);                                 \
    if (!prefix_length || !strpbrk(mode, "wa+") || !at(AT_FDCWD, given, path) || !watched(path)) \
      return next(given, mode);                                                              \
    int there = !access(path, F_OK);                                                         \
    before();                                                                                \
    if (!there && full()) return NULL;                                                       \
    FILE *file = next(given, mode);                                                          \
    if (file) note(!there ? "create" : mode[0] == 'w' ? "truncate" : "open", path, NULL);    \
    return file;                                                                             \
  }
FOPEN(fopen) FOPEN(fopen64)

static int moved(int folder, const char *from, int other, const char *to, unsigned flags) {
  char source[PATH_MAX], target[PATH_MAX];
  if (!prefix_length || !at(folder, from, source) || !at(other, to, target) ||
      !(watched(source) || watched(target)))
    return REAL(renameat2)(folder, from, other, to, flags);
  before();
  keep(target);
  int result = REAL(renameat2)(folder, from, other, to, flags);
  if (!result) note("rename", source, target);
  return result;
}
int rename(const char *from, const char *to) { return moved(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return moved(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
  return moved(a, from, b, to, flags);
}

static int removed(int folder, const char *name, int flags) {
  char path[PATH_MAX];
  if (!prefix_length || !at(folder, name, path) || !watched(path)) return REAL(unlinkat)(folder, name, flags);
  before();
  keep(path);
  int result = REAL(unlinkat)(folder, name, flags);
  if (!result) note("remove", path, NULL);
  return result;
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int folder, const char *path, int flags) { return removed(folder, path, flags); }

static int made(int folder, const char *name, mode_t mode) {
  char path[PATH_MAX];
  if (!prefix_length || !at(folder, name, path) || !watched(path)) return REAL(mkdirat)(folder, name, mode);
  if (access(path, F_OK)) {
    before();
    if (full()) return -1;
  }
  int result = REAL(mkdirat)(folder, name, mode);
  if (!result) note("mkdir", path, NULL);
  return result;
}
int mkdir(const char *path, mode_t mode) { return made(AT_FDCWD, path, mode); }
int mkdirat(int folder, const char *path, mode_t mode) { return made(folder, path, mode); }

static int with_fd(int fd, char *path) { return prefix_length && fd != log_fd && of_fd(fd, path) && watched(path); }

#define SYNC(name)                                       \
  int name(int fd) {                                     \
    char path[PATH_MAX];                                 \
    if (!with_fd(fd, path)) return REAL(name)(fd);       \
    before();                                            \
    int result = REAL(name)(fd);                         \
    if (!result) note("sync", path, NULL);               \
    return result;                                       \
  }
SYNC(fsync) SYNC(fdatasync)

#define FTRUNCATE(name, type)                            \
  int name(int fd, type size) {                          \
    char path[PATH_MAX];                                 \
    if (!with_fd(fd, path)) return REAL(name)(fd, size); \
    before();                                            \
    int result = REAL(name)(fd, size);                   \
    if (!result) note("truncate", path, NULL);           \
    return result;                                       \
  }
FTRUNCATE(ftruncate, off_t) FTRUNCATE(ftruncate64, off64_t)

/* How many of `size` bytes may be written; of the one in which the signal comes, half are. */
static size_t allowed(size_t size, int *last) {
  *last = __atomic_add_fetch(&shared->writes, 1, __ATOMIC_SEQ_CST) == in_write;
  if (*last) size /= 2;
  if (full_errno) {
    long left = full_after - shared->bytes;
    size = left <= 0 ? 0 : (size_t)left < size ? (size_t)left : size;
  }
  __atomic_add_fetch(&shared->bytes, (long)size, __ATOMIC_SEQ_CST);
  return size;
}

#define WRITE(call, size)                                                     \
  char path[PATH_MAX];                                                        \
  int last;                                                                   \
  if (!with_fd(fd, path)) return call;                                        \
  size_t wanted = size;                                                       \
  size = allowed(size, &last);                                                \
  if (wanted && !size && !last) { errno = full_errno; return -1; }            \
  ssize_t result = call;                                                      \
  if (result >= 0) note("write", path, NULL);                                 \
  if (last) hit();                                                            \
  return result;
ssize_t write(int fd, const void *data, size_t size) { WRITE(REAL(write)(fd, data, size), size) }
ssize_t pwrite(int fd, const void *data, size_t size, off_t where) {
  WRITE(REAL(pwrite)(fd, data, size, where), size)
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t where) {
  WRITE(REAL(pwrite64)(fd, data, size, where), size)
}
ssize_t sendfile(int fd, int from, off_t *where, size_t size) { WRITE(REAL(sendfile)(fd, from, where, size), size) }
ssize_t sendfile64(int fd, int from, off64_t *where, size_t size) {
  WRITE(REAL(sendfile64)(fd, from, where, size), size)
}
ssize_t copy_file_range(int from, off64_t *start, int fd, off64_t *where, size_t size, unsigned flags) {
  WRITE(REAL(copy_file_range)(from, start, fd, where, size, flags), size)
}
ssize_t writev(int fd, const struct iovec *parts, int count) { /* the first part alone is a short write */
  char path[PATH_MAX];
  if (!with_fd(fd, path) || !count) return REAL(writev)(fd, parts, count);
  return write(fd, parts[0].iov_base, parts[0].iov_len);
}
