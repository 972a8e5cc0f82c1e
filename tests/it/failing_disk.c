/* Preloaded into a process under test: flushes and writes of chosen files fail while a control file exists.
 *
 * FAILING_DISK names the control file. Its one line is `OPERATION ERRNO END`: flushes ("flush") or writes
 * ("write") of files whose path ends with END fail with ERRNO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(int fd, const char *operation) {
    const char *control = getenv("FAILING_DISK");
    char wanted[16], end[128], link[64], path[512];
    int error = 0;
    if (!control) return 0;
    FILE *file = fopen(control, "re");
    if (!file) return 0;
    int read = fscanf(file, "%15s %d %127s", wanted, &error, end);
    fclose(file);
    if (read != 3 || strcmp(wanted, operation)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    size_t tail = strlen(end);
    if ((size_t)length < tail || strcmp(path + length - tail, end)) return 0;
    errno = error;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int fd) { return fails(fd, "flush") ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails(fd, "flush") ? -1 : REAL(fdatasync)(fd); }

ssize_t write(int fd, const void *bytes, size_t count) {
    return fails(fd, "write") ? -1 : REAL(write)(fd, bytes, count);
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return fails(fd, "write") ? -1 : REAL(pwrite)(fd, bytes, count, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    return fails(fd, "write") ? -1 : REAL(pwrite64)(fd, bytes, count, at);
}
