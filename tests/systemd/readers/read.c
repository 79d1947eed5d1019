#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
static int copy(const char *path) { char b[99]; int f = open(path, O_RDONLY); return fwrite(b, 1, read(f, b, 99), stdout) < 1; }
int main(int n, char **a) {
    struct stat s; char *v, path[999];
    if (!strcmp(a[1], "fd")) { int f = atoi(getenv("K_FD")); fstat(f, &s); v = mmap(0, s.st_size, PROT_READ, MAP_SHARED, f, 0); return fwrite(v, 1, s.st_size, stdout) < 1; }
    if (!strcmp(a[1], "file")) return copy(getenv("REMPART_FILE_K"));
    if (!strcmp(a[1], "credential")) { snprintf(path, sizeof path, "%s/K", getenv("CREDENTIALS_DIRECTORY")); return copy(path); }
    fputs(getenv("PW"), stdout); return 0;
}
