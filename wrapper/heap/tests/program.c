// A program that knows nothing of secret memory: `program WHAT` does one thing that programs do and ends with 0 if it went well.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NEED(what) do { if (!(what)) { printf("%d: %s\n", __LINE__, #what); fflush(stdout); _exit(1); } } while (0)

static char *early;
__attribute__((constructor)) static void constructor(void) { early = strdup("before main"); }

// What this process itself finds through the kernel at an address.
static int readable(const void *at) {
    char byte;
    int memory = open("/proc/self/mem", O_RDONLY);
    NEED(memory >= 0);
    int got = pread(memory, &byte, 1, (off_t)at) == 1;
    close(memory);
    return got;
}

static int status_of(pid_t child) {
    int status;
    NEED(waitpid(child, &status, 0) == child);
    return status;
}

static char *small, *large;
static void fill(void) {
    small = strdup("the parent's");
    large = malloc(9 << 20);
    strcpy(large + 5000000, "the parent's");
}
static int both_are(const char *word) { return !strcmp(small, word) && !strcmp(large + 5000000, word); }
static void write_both(const char *word) { strcpy(small, word); strcpy(large + 5000000, word); }

static void heap(void) {
    static const char open_to_all[] = "control";
    NEED(readable(open_to_all));
    fill();
    void *aligned;
    NEED(!posix_memalign(&aligned, 4096, 100) && !((size_t)aligned & 4095));
    char *lines[] = {early, small, large, calloc(10, 10), realloc(strdup("x"), 5000), aligned, aligned_alloc(64, 64), valloc(1), memalign(32, 1), pvalloc(1), reallocarray(NULL, 3, 5)};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) { NEED(lines[i]); *(volatile char *)lines[i]; NEED(!readable(lines[i])); free(lines[i]); }
    NEED(malloc_usable_size(strdup("12345")) >= 6);
}

// Both ways, in child and grandchild: what one writes, nobody else reads.
static void isolated(pid_t (*make)(void)) {
    fill();
    int to_child[2], to_parent[2];
    char byte = 0;
    NEED(!pipe(to_child) && !pipe(to_parent));
    pid_t child = make();
    NEED(child >= 0);
    close(to_child[!child]);
    close(to_parent[child != 0]);
    if (!child) {
        NEED(both_are("the parent's"));
        NEED(!readable(small) && !readable(large));
        write_both("the child's");
        NEED(write(to_parent[1], &byte, 1) == 1 && read(to_child[0], &byte, 1) == 1);
        NEED(both_are("the child's"));
        pid_t grandchild = make();
        if (!grandchild) { NEED(both_are("the child's")); write_both("a third"); _exit(0); }
        NEED(!status_of(grandchild) && both_are("the child's"));
        free(large);
        for (int i = 0; i < 1000; i++) NEED(malloc(i));
        _exit(0);
    }
    NEED(read(to_parent[0], &byte, 1) == 1);
    NEED(both_are("the parent's"));
    write_both("newer");
    NEED(write(to_child[1], &byte, 1) == 1);
    NEED(!status_of(child) && both_are("newer"));
}

static void *churn(void *seed) {
    unsigned state = (unsigned)(size_t)seed;
    unsigned char *blocks[64] = {0};
    size_t sizes[64] = {0};
    for (;;) {
        state = state * 1103515245 + 12345;
        int i = (state >> 8) & 63;
        for (size_t k = 0; k < sizes[i]; k++) NEED(blocks[i][k] == (unsigned char)i);
        free(blocks[i]);
        NEED(blocks[i] = malloc(sizes[i] = (state >> 14) % (state & 1024 ? 60000 : 600)));
        memset(blocks[i], i, sizes[i]);
    }
}
static void *blocked_in_a_stream(void *stream) { char line[10]; return fgets(line, 10, stream); }

// The C library touches streams and thread data in a child before it calls anybody.
static void threads(void) {
    pthread_t thread;
    for (size_t i = 1; i < 4; i++) NEED(!pthread_create(&thread, NULL, churn, (void *)i));
    int ends[2];
    NEED(!pipe(ends));
    NEED(!pthread_create(&thread, NULL, blocked_in_a_stream, fdopen(ends[0], "r")));
    FILE *log = fopen("/dev/null", "w");
    for (size_t i = 0; i < 60; i++) { pthread_key_t key; NEED(!pthread_key_create(&key, NULL) && !pthread_setspecific(key, log)); }
    for (int round = 0; round < 100; round++) {
        pid_t child = fork();
        NEED(child >= 0);
        if (!child) {
            NEED(fprintf(log, "line\n") == 5 && !fflush(log));
            FILE *own = fopen("/dev/null", "w");
            NEED(own && fprintf(own, "line\n") == 5 && !fclose(own));
            _exit(0);
        }
        NEED(!status_of(child));
    }
}

static volatile sig_atomic_t faults;
static char *nowhere;
static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)context;
    if (info->si_addr == nowhere) { faults++; NEED(faults == 1); _exit(7); }
}
// A program's own handler of SIGSEGV stays, and is the one that its faults reach, in parent and child, also where threads block it.
static void faulting(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, now;
    sigset_t all, mask;
    sigfillset(&all);
    NEED(!sigaction(SIGSEGV, &action, NULL) && !pthread_sigmask(SIG_BLOCK, &all, NULL));
    pthread_t thread;
    NEED(!pthread_create(&thread, NULL, churn, (void *)1));
    FILE *log = fopen("/dev/null", "w");
    pid_t child = fork();
    NEED(child >= 0 && log);
    NEED(!sigaction(SIGSEGV, NULL, &now) && now.sa_sigaction == on_fault);
    NEED(!pthread_sigmask(SIG_SETMASK, NULL, &mask) && sigismember(&mask, SIGSEGV));
    sigemptyset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    if (!child) { *nowhere = 1; _exit(1); }
    int status = status_of(child);
    NEED(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static char *kept[4000];
static int kept_count, kept_size = 3000;
static void allocate_much(void) { for (int i = 0; i < 1000 && kept_count < 4000; i++) if (!(kept[kept_count++] = malloc(kept_size))) break; }
static void check_in_child(void) { for (int i = 0; i < kept_count; i++) if (kept[i]) memset(kept[i], 1, kept_size); free(malloc(10)); }
// Handlers around a fork that use the heap, so that it grows behind the reservation.
static void handlers(void) {
    NEED(!pthread_atfork(allocate_much, NULL, check_in_child));
    isolated(fork);
}

static void started(void) {
    fill();
    char *args[] = {"sh", "-c", "exit 7", NULL};
    pid_t child;
    NEED(!posix_spawnp(&child, "sh", NULL, NULL, args, environ) && WEXITSTATUS(status_of(child)) == 7);
    NEED(WEXITSTATUS(system("exit 7")) == 7);
    FILE *pipe = popen("echo line", "r");
    char line[10];
    NEED(fgets(line, 10, pipe) && !strcmp(line, "line\n") && !pclose(pipe));
    if (!(child = vfork())) { execvp("sh", args); _exit(1); }
    NEED(WEXITSTATUS(status_of(child)) == 7);
    if (!(child = fork())) { execvp("sh", args); _exit(1); }
    NEED(WEXITSTATUS(status_of(child)) == 7);
    NEED(both_are("the parent's"));
}
// A fork that goes past the C library: the child must not have the parent's heap, and so ends.
static void raw(void) {
    fill();
    pid_t child = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    NEED(child >= 0);
    if (!child) { small[0] = 'X'; _exit(0); }
    int status = status_of(child);
    NEED(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV && both_are("the parent's"));
}
static void refused(void) {
    small = strdup("the parent's");
    NEED(large = malloc(5 << 20));
    strcpy(large, small);
    errno = 0;
    NEED(fork() == -1 && errno == ENOMEM);
    NEED(!strcmp(large, small));
    free(large);
    large = NULL;
    errno = 0;
    pid_t child = fork();
    NEED(child >= 0);
    if (!child) { NEED(!strcmp(small, "the parent's")); _exit(0); }
    NEED(!status_of(child) && waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
}
// No room only since a handler took it, after the reservation.
static void refused_late(void) {
    small = strdup("the parent's");
    NEED(!pthread_atfork(allocate_much, NULL, NULL));
    kept_size = 5000;
    errno = 0;
    NEED(fork() == -1 && errno == ENOMEM);
    NEED(!strcmp(small, "the parent's") && waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
}
static void full(void) {
    size_t got = 0;
    char *last = NULL, *block;
    errno = 0;
    while ((block = malloc(10000))) { memset(block, 1, 10000); got += 10000; last = block; NEED(got < 64 << 20); }
    NEED(errno == ENOMEM && !malloc(10000) && !calloc(1, 5 << 20) && last);
    free(last);
    NEED(malloc(9000));
    printf("%zu", got);
}
// A daemon that closed stderr and got a connection in its place: no line may go there.
static void full_beside_a_connection(void) {
    int ends[2];
    close(2);
    NEED(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends) && ends[0] == 2);
    while (malloc(100000)) {}
    char line[10];
    NEED(recv(ends[1], line, sizeof line, MSG_DONTWAIT) == -1 && errno == EAGAIN);
}
static void sleeping(void) {
    char line[200];
    NEED(fgets(line, sizeof line, stdin));
    char *copy = strdup(line), *large = malloc(6 << 20);
    sprintf(large + (5 << 20), "copy of %s", copy);
    memset(line, 0, sizeof line);
    if (!fork()) { printf("child %d\n", getpid()); fflush(stdout); for (;;) pause(); }
    wait(NULL);
}

int main(int count, char **words) {
    const char *what = count > 1 ? words[1] : "";
    if (!strcmp(what, "heap")) heap();
    else if (!strcmp(what, "fork")) isolated(fork);
    else if (!strcmp(what, "bare-fork")) isolated(_Fork);
    else if (!strcmp(what, "threads")) threads();
    else if (!strcmp(what, "faults")) faulting();
    else if (!strcmp(what, "handlers")) handlers();
    else if (!strcmp(what, "started")) started();
    else if (!strcmp(what, "raw")) raw();
    else if (!strcmp(what, "refused")) refused();
    else if (!strcmp(what, "refused-late")) refused_late();
    else if (!strcmp(what, "full")) full();
    else if (!strcmp(what, "full-connection")) full_beside_a_connection();
    else if (!strcmp(what, "sleep")) sleeping();
    else return 64;
    fflush(stdout);
    _exit(0);
}
