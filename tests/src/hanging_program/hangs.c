/* Serves HTTP until a file is there, and then hangs in the way that its arguments name. Once a second file is there, the
 * ways that can end do so, and it serves again.
 *
 * hangs PORT FOLDER WAY [ARGUMENT…] */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS_MAX 512

static char go[4096], end[4096], release[4096];
static char **arguments;
static int released;
static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER, second = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both;
static volatile int work;

static int is_there(const char *path) { return access(path, F_OK) == 0; }

/* Until the program is to go on. It stands still meanwhile. */
static void wait_for_release(void) {
    struct pollfd fifo = {.fd = released, .events = POLLIN};
    poll(&fifo, 1, -1);
}

static struct sockaddr_in peer(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
    inet_pton(AF_INET, arguments[0], &to.sin_addr);
    return to;
}

/* Two threads take two locks in opposite order. */
__attribute__((noinline)) static void transfer(pthread_mutex_t *from, pthread_mutex_t *to) {
    pthread_mutex_lock(from);
    pthread_barrier_wait(&both);
    pthread_mutex_lock(to);
    work++;
    pthread_mutex_unlock(to);
    pthread_mutex_unlock(from);
}
static void *deadlock(void *turn) {
    if (turn) transfer(&first, &second);
    else transfer(&second, &first);
    return NULL;
}

/* One thread has the lock until the file is there; all others wait for it. */
__attribute__((noinline)) static void update_balance(void) {
    pthread_mutex_lock(&first);
    work++;
    pthread_mutex_unlock(&first);
}
static void *locked(void *turn) {
    if (turn) {
        pthread_barrier_wait(&both);
        update_balance();
        return NULL;
    }
    pthread_mutex_lock(&first);
    pthread_barrier_wait(&both);
    wait_for_release();
    pthread_mutex_unlock(&first);
    return NULL;
}

__attribute__((noinline)) static int connect_to_database(void) {
    struct sockaddr_in to = peer();
    int it = socket(AF_INET, SOCK_STREAM, 0);
    return connect(it, (struct sockaddr *)&to, sizeof to) ? -1 : it;
}
static void *connecting(void *turn) {
    (void)turn;
    connect_to_database();
    return NULL;
}
static void *receiving(void *turn) {
    char answer[64];
    (void)turn;
    return (void *)recv(connect_to_database(), answer, sizeof answer, 0);
}

/* As before, by a function of the C library that saves no register: with frame pointers, a thread has to be stopped to find
 * out where it is. */
static void *calling(void *turn) {
    char answer[64];
    (void)turn;
    return (void *)syscall(SYS_recvfrom, connect_to_database(), answer, sizeof answer, 0, NULL, NULL);
}

__attribute__((noinline)) static void spin(void) {
    while (!is_there(end))
        for (int round = 0; round < 100000000 && !work; round++) __asm__ volatile("" ::: "memory");
}
static void *busy(void *turn) {
    (void)turn;
    spin();
    return NULL;
}

/* The child stands still, and its parent waits for it in the kernel. */
static void *in_vfork(void *turn) {
    (void)turn;
    if (vfork() == 0) {
        wait_for_release();
        _exit(0);
    }
    return NULL;
}

static void *on_disk(void *turn) {
    struct stat found;
    (void)turn;
    stat(arguments[0], &found);
    return NULL;
}

/* Waits that a stop must not end. Each says if it was ended before its time. */
static void *sleeping(void *turn) {
    int kind = (int)(long)turn % 3, pipes[2];
    struct timespec little = {.tv_nsec = 500000000};
    struct pollfd none = {.fd = -1};
    if (pipe(pipes)) return NULL;
    int events = epoll_create1(0);
    while (!is_there(end)) {
        struct epoll_event event;
        int ended = kind == 0 ? nanosleep(&little, NULL) : kind == 1 ? poll(&none, 1, 500) : epoll_wait(events, &event, 1, 500);
        if (ended < 0) {
            printf("interrupted %d %s\n", kind, strerror(errno));
            fflush(stdout);
        }
    }
    return NULL;
}

static void hang(const char *way, int threads) {
    pthread_t ids[THREADS_MAX];
    void *(*run)(void *) = !strcmp(way, "deadlock")  ? deadlock
                           : !strcmp(way, "lock")    ? locked
                           : !strcmp(way, "connect") ? connecting
                           : !strcmp(way, "recv")    ? receiving
                           : !strcmp(way, "call")    ? calling
                           : !strcmp(way, "busy")    ? busy
                           : !strcmp(way, "vfork")   ? in_vfork
                           : !strcmp(way, "disk")    ? on_disk
                                                     : sleeping;
    pthread_barrier_init(&both, NULL, threads);
    for (long it = 0; it < threads; it++) pthread_create(&ids[it], NULL, run, (void *)it);
    for (int it = 0; it < threads; it++) pthread_join(ids[it], NULL);
}

int main(int count, char **words) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1, hung = 0;
    if (count < 5) return 2;
    snprintf(go, sizeof go, "%s/go", words[2]);
    snprintf(end, sizeof end, "%s/end", words[2]);
    snprintf(release, sizeof release, "%s/release", words[2]);
    mkfifo(release, 0600);
    released = open(release, O_RDWR | O_NONBLOCK);
    arguments = words + 5;
    at.sin_port = htons(atoi(words[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 128)) return 3;
    for (;;) {
        char request[4096];
        int client = accept(listener, NULL, NULL);
        if (!hung && is_there(go)) {
            hung = 1;
            hang(words[3], atoi(words[4]));
        }
        ssize_t read_bytes = read(client, request, sizeof request);
        const char *answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        if (read_bytes > 0 && write(client, answer, strlen(answer)) < 0) perror("write");
        close(client);
    }
}
