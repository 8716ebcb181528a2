/*
 * A disk that forgets and fails, preloaded into the process under test (LD_PRELOAD).
 *
 * It keeps a journal of what the process made durable in one directory: the length of each file at its last fsync or
 * fdatasync, and every change of names with the directory syncs between them. After the process was killed, the journal
 * tells what a power cut at that moment would have left (test/power/power-cut.ts). Nothing is copied while it runs:
 * LevelDB only appends, so the durable content is the file that is there, cut at the recorded length; where it writes over
 * zeros, the journal has its position too, and what follows were durable zeros. What is unlinked or
 * replaced keeps a hard link, what is truncated on opening is copied before. A change in place is recorded as one that
 * this rig cannot follow.
 *
 * It also fails or delays writes and syncs on request, through a shared page.
 *
 * FIELDPOST_DISK_ROOT     the directory
 * FIELDPOST_DISK_IMAGE    where journal, links and copies go; the same file system. Unset: no journal
 * FIELDPOST_DISK_CONTROL  file of the shared page
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The order is that of CONTROL in disk-shim.ts. */
struct control {
  int32_t sync_delay_ms;
  int32_t fail_syncs;  /* the next n; -1: all */
  int32_t fail_writes; /* the next n; -1: all */
  int32_t fail_errno;
  int32_t ignore_file_syncs;
  int32_t ignore_directory_syncs;
  int32_t file_syncs;
  int32_t directory_syncs;
  int32_t failures;
};

static char root[PATH_MAX];
static size_t root_length;
static char image[PATH_MAX];
static int journal = -1;
static struct control no_control;
static struct control *control = &no_control;
static int snapshots;
static pthread_mutex_t names = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) static __typeof__(&name) real_##name
REAL(open); REAL(open64); REAL(openat); REAL(fopen); REAL(fopen64); REAL(rename); REAL(unlink); REAL(unlinkat);
REAL(mkdir); REAL(rmdir); REAL(link); REAL(fsync); REAL(fdatasync); REAL(ftruncate64); REAL(truncate); REAL(pwrite64);
REAL(fwrite_unlocked); REAL(write);

static void setup(void) __attribute__((constructor));
static void setup(void) {
#define FIND(name) real_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
  FIND(open); FIND(open64); FIND(openat); FIND(fopen); FIND(fopen64); FIND(rename); FIND(unlink); FIND(unlinkat);
  FIND(mkdir); FIND(rmdir); FIND(link); FIND(fsync); FIND(fdatasync); FIND(ftruncate64); FIND(truncate); FIND(pwrite64);
  FIND(fwrite_unlocked); FIND(write);
  const char *text = getenv("FIELDPOST_DISK_ROOT");
  if (text == NULL || realpath(text, root) == NULL) return;
  root_length = strlen(root);
  text = getenv("FIELDPOST_DISK_CONTROL");
  if (text != NULL) {
    int fd = real_open(text, O_RDWR | O_CLOEXEC);
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) control = page;
    if (fd >= 0) close(fd);
  }
  text = getenv("FIELDPOST_DISK_IMAGE");
  if (text == NULL) return;
  snprintf(image, sizeof image, "%s", text);
  char path[PATH_MAX + 16];
  snprintf(path, sizeof path, "%s/journal", image);
  journal = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (journal < 0) { perror("disk shim: journal"); abort(); }
}

static void record(const char *format, ...) {
  char line[2 * PATH_MAX];
  va_list args;
  va_start(args, format);
  int length = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  /* One write, so that a kill leaves a whole line or none. */
  if (real_write(journal, line, (size_t)length) != length) { perror("disk shim: record"); abort(); }
}

/* The absolute path when it is inside the directory, else NULL. */
static const char *inside(int directory, const char *path, char *buffer) {
  if (root_length == 0 || path == NULL) return NULL;
  if (path[0] != '/') {
    char base[PATH_MAX];
    if (directory == AT_FDCWD) {
      if (getcwd(base, sizeof base) == NULL) return NULL;
    } else {
      char link_path[64];
      snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", directory);
      ssize_t length = readlink(link_path, base, sizeof base - 1);
      if (length < 0) return NULL;
      base[length] = 0;
    }
    if (snprintf(buffer, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return NULL;
    path = buffer;
  }
  return strncmp(path, root, root_length) == 0 && path[root_length] == '/' ? path : NULL;
}

static int descriptor_inside(int fd) {
  if (root_length == 0) return 0;
  char link_path[64], target[PATH_MAX];
  snprintf(link_path, sizeof link_path, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link_path, target, sizeof target - 1);
  if (length < (ssize_t)root_length) return 0;
  target[length] = 0;
  return strncmp(target, root, root_length) == 0 && (target[root_length] == '/' || target[root_length] == 0);
}

static const char *base_name(const char *path) { return strrchr(path, '/') + 1; }

static unsigned long parent_inode(const char *path) {
  char directory[PATH_MAX];
  snprintf(directory, sizeof directory, "%.*s", (int)(base_name(path) - 1 - path), path);
  struct stat status;
  return stat(directory, &status) == 0 ? (unsigned long)status.st_ino : 0;
}

/* Keeps what is about to lose its name; also keeps its inode number from being given to another file. */
static void bury(const char *path) {
  struct stat status;
  if (lstat(path, &status) != 0 || !S_ISREG(status.st_mode)) return;
  char grave[PATH_MAX + 64];
  snprintf(grave, sizeof grave, "%s/graves/%lu", image, (unsigned long)status.st_ino);
  if (real_link(path, grave) != 0 && errno != EEXIST) { perror("disk shim: grave"); abort(); }
}

static void copy_before_truncation(const char *path) {
  struct stat status;
  if (stat(path, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size == 0) return;
  char copy[PATH_MAX + 64], bytes[65536];
  int number = ++snapshots;
  snprintf(copy, sizeof copy, "%s/copies/%d-%d", image, (int)getpid(), number);
  int from = real_open(path, O_RDONLY | O_CLOEXEC), to = real_open(copy, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (from < 0 || to < 0) { perror("disk shim: copy"); abort(); }
  for (ssize_t length; (length = read(from, bytes, sizeof bytes)) > 0;) {
    if (real_write(to, bytes, (size_t)length) != length) { perror("disk shim: copy"); abort(); }
  }
  close(from);
  close(to);
  record("T\t%lu\t%d-%d\n", (unsigned long)status.st_ino, (int)getpid(), number);
}

static void created(const char *path, const char *kind) {
  struct stat status;
  if (lstat(path, &status) != 0) return;
  record("C\t%lu\t%s\t%lu\t%s\n", parent_inode(path), base_name(path), (unsigned long)status.st_ino, kind);
}

static int may_create(const char *path) { return access(path, F_OK) != 0; }

/* One opening: what it will truncate is kept, what it creates is recorded. */
#define OPENING(full, creates, truncates, call, failed)                                                               \
  do {                                                                                                                 \
    pthread_mutex_lock(&names);                                                                                        \
    int is_new = (creates) && may_create(full);                                                                        \
    if (truncates) copy_before_truncation(full);                                                                       \
    __typeof__(call) result = call;                                                                                    \
    int saved = errno;                                                                                                 \
    if (is_new && !(failed)) created(full, "f");                                                                       \
    pthread_mutex_unlock(&names);                                                                                      \
    errno = saved;                                                                                                     \
    return result;                                                                                                     \
  } while (0)

#define MODE_ARGUMENT                                                                                                  \
  mode_t mode = 0;                                                                                                     \
  if (flags & (O_CREAT | O_TMPFILE)) {                                                                                 \
    va_list args;                                                                                                      \
    va_start(args, flags);                                                                                             \
    mode = va_arg(args, mode_t);                                                                                       \
    va_end(args);                                                                                                      \
  }

int open(const char *path, int flags, ...) {
  MODE_ARGUMENT
  char buffer[PATH_MAX];
  const char *full = journal < 0 ? NULL : inside(AT_FDCWD, path, buffer);
  if (full == NULL || !(flags & (O_CREAT | O_TRUNC))) return real_open(path, flags, mode);
  OPENING(full, flags & O_CREAT, flags & O_TRUNC, real_open(path, flags, mode), result < 0);
}

int open64(const char *path, int flags, ...) {
  MODE_ARGUMENT
  char buffer[PATH_MAX];
  const char *full = journal < 0 ? NULL : inside(AT_FDCWD, path, buffer);
  if (full == NULL || !(flags & (O_CREAT | O_TRUNC))) return real_open64(path, flags, mode);
  OPENING(full, flags & O_CREAT, flags & O_TRUNC, real_open64(path, flags, mode), result < 0);
}

int openat(int directory, const char *path, int flags, ...) {
  MODE_ARGUMENT
  char buffer[PATH_MAX];
  const char *full = journal < 0 ? NULL : inside(directory, path, buffer);
  if (full == NULL || !(flags & (O_CREAT | O_TRUNC))) return real_openat(directory, path, flags, mode);
  OPENING(full, flags & O_CREAT, flags & O_TRUNC, real_openat(directory, path, flags, mode), result < 0);
}

FILE *fopen64(const char *path, const char *mode) {
  char buffer[PATH_MAX];
  const char *full = journal < 0 || mode[0] == 'r' ? NULL : inside(AT_FDCWD, path, buffer);
  if (full == NULL) return real_fopen64(path, mode);
  OPENING(full, 1, mode[0] == 'w', real_fopen64(path, mode), result == NULL);
}

FILE *fopen(const char *path, const char *mode) { return fopen64(path, mode); }

int rename(const char *from, const char *to) {
  char buffer[PATH_MAX], to_buffer[PATH_MAX];
  const char *full = journal < 0 ? NULL : inside(AT_FDCWD, from, buffer);
  const char *to_full = journal < 0 ? NULL : inside(AT_FDCWD, to, to_buffer);
  if (full == NULL || to_full == NULL) return real_rename(from, to);
  pthread_mutex_lock(&names);
  bury(to_full);
  unsigned long from_parent = parent_inode(full), to_parent = parent_inode(to_full);
  int result = real_rename(from, to), saved = errno;
  if (result == 0) record("R\t%lu\t%s\t%lu\t%s\n", from_parent, base_name(full), to_parent, base_name(to_full));
  pthread_mutex_unlock(&names);
  errno = saved;
  return result;
}

#define REMOVAL(full, call)                                                                                            \
  do {                                                                                                                 \
    pthread_mutex_lock(&names);                                                                                        \
    bury(full);                                                                                                        \
    unsigned long parent = parent_inode(full);                                                                         \
    int result = call, saved = errno;                                                                                  \
    if (result == 0) record("U\t%lu\t%s\n", parent, base_name(full));                                                  \
    pthread_mutex_unlock(&names);                                                                                      \
    errno = saved;                                                                                                     \
    return result;                                                                                                     \
  } while (0)

int unlink(const char *path) {
  char buffer[PATH_MAX];
  const char *full = journal < 0 ? NULL : inside(AT_FDCWD, path, buffer);
  if (full == NULL) return real_unlink(path);
  REMOVAL(full, real_unlink(path));
}

int unlinkat(int directory, const char *path, int flags) {
  char buffer[PATH_MAX];
  const char *full = journal < 0 ? NULL : inside(directory, path, buffer);
  if (full == NULL) return real_unlinkat(directory, path, flags);
  REMOVAL(full, real_unlinkat(directory, path, flags));
}

int rmdir(const char *path) {
  char buffer[PATH_MAX];
  const char *full = journal < 0 ? NULL : inside(AT_FDCWD, path, buffer);
  if (full == NULL) return real_rmdir(path);
  REMOVAL(full, real_rmdir(path));
}

int mkdir(const char *path, mode_t mode) {
  char buffer[PATH_MAX];
  const char *full = journal < 0 ? NULL : inside(AT_FDCWD, path, buffer);
  if (full == NULL) return real_mkdir(path, mode);
  pthread_mutex_lock(&names);
  int result = real_mkdir(path, mode), saved = errno;
  if (result == 0) created(full, "d");
  pthread_mutex_unlock(&names);
  errno = saved;
  return result;
}

int link(const char *from, const char *to) {
  char buffer[PATH_MAX];
  const char *full = journal < 0 ? NULL : inside(AT_FDCWD, to, buffer);
  if (full == NULL) return real_link(from, to);
  pthread_mutex_lock(&names);
  int result = real_link(from, to), saved = errno;
  if (result == 0) created(full, "f");
  pthread_mutex_unlock(&names);
  errno = saved;
  return result;
}

static void changed_in_place(int fd, off_t position) {
  struct stat status;
  if (journal < 0 || !descriptor_inside(fd) || fstat(fd, &status) != 0 || position >= status.st_size) return;
  record("X\t%lu\n", (unsigned long)status.st_ino);
}

int ftruncate64(int fd, off_t length) {
  changed_in_place(fd, length);
  return real_ftruncate64(fd, length);
}

int truncate(const char *path, off_t length) {
  struct stat status;
  char buffer[PATH_MAX];
  if (journal >= 0 && inside(AT_FDCWD, path, buffer) != NULL && stat(path, &status) == 0 && length < status.st_size) {
    record("X\t%lu\n", (unsigned long)status.st_ino);
  }
  return real_truncate(path, length);
}

/* Takes one from a count of faults to come. */
static int fault(int32_t *count) {
  int32_t left = __atomic_load_n(count, __ATOMIC_SEQ_CST);
  while (left > 0) {
    if (__atomic_compare_exchange_n(count, &left, left - 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) break;
  }
  if (left == 0) return 0;
  __atomic_add_fetch(&control->failures, 1, __ATOMIC_SEQ_CST);
  errno = control->fail_errno == 0 ? EIO : control->fail_errno;
  return 1;
}

/*
 * Where the next write through this descriptor goes, if it is one that writes in a row: what follows are the zeros that
 * src/platform/level-log-ahead.ts puts ahead of LevelDB's log.
 */
static off_t written_to(int fd, off_t size) {
  int flags = fcntl(fd, F_GETFL);
  off_t position = lseek(fd, 0, SEEK_CUR);
  return (flags & (O_ACCMODE | O_APPEND)) == O_WRONLY && position > 0 && position < size ? position : size;
}

static int sync_descriptor(int fd, int (*real)(int)) {
  if (!descriptor_inside(fd)) return real(fd);
  struct stat status;
  if (fstat(fd, &status) != 0) return -1;
  int is_directory = S_ISDIR(status.st_mode);
  __atomic_add_fetch(is_directory ? &control->directory_syncs : &control->file_syncs, 1, __ATOMIC_SEQ_CST);
  if (control->sync_delay_ms > 0) usleep((useconds_t)control->sync_delay_ms * 1000);
  if (!is_directory && control->fail_syncs != 0 && fault(&control->fail_syncs)) return -1;
  if (journal < 0) return real(fd);
  /* The page cache outlives a kill, so that the real sync adds nothing but time. */
  if (is_directory ? control->ignore_directory_syncs : control->ignore_file_syncs) return 0;
  if (is_directory) {
    pthread_mutex_lock(&names);
    record("D\t%lu\n", (unsigned long)status.st_ino);
    pthread_mutex_unlock(&names);
  } else {
    /* The length before the sync: what was written meanwhile is not promised. */
    record("F\t%lu\t%lld\t%lld\n", (unsigned long)status.st_ino, (long long)status.st_size,
           (long long)written_to(fd, status.st_size));
  }
  return 0;
}

int fsync(int fd) { return sync_descriptor(fd, real_fsync); }
int fdatasync(int fd) { return sync_descriptor(fd, real_fdatasync); }

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t position) {
  changed_in_place(fd, position);
  if (control->fail_writes != 0 && descriptor_inside(fd) && fault(&control->fail_writes)) return -1;
  return real_pwrite64(fd, bytes, count, position);
}

/* In brackets: the header makes a macro of it. */
size_t (fwrite_unlocked)(const void *bytes, size_t size, size_t count, FILE *stream) {
  if (control->fail_writes != 0 && descriptor_inside(fileno(stream)) && fault(&control->fail_writes)) return 0;
  return real_fwrite_unlocked(bytes, size, count, stream);
}

ssize_t write(int fd, const void *bytes, size_t count) {
  if (control->fail_writes != 0 && descriptor_inside(fd) && fault(&control->fail_writes)) return -1;
  return real_write(fd, bytes, count);
}
