/* Waits for SIGUSR1, and then crashes in the way that its argument names. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int parse_header(const char *bytes);

static void (*volatile nowhere)(void);
static volatile int zero;

static int divide(int by) { return 1000 / by; }

static int undefined_instruction(void)
{
	__builtin_trap();
	return 0;
}

static int call_nowhere(void)
{
	nowhere();
	return zero;
}

static int recurse(int depth)
{
	volatile char room[1000];
	room[depth % 1000] = (char)depth;
	return recurse(depth + 1) + room[0];
}

static int give_up(void)
{
	abort();
}

static void handler(int number)
{
	signal(number, SIG_DFL);
	raise(number);
}

static int handled(void)
{
	signal(SIGSEGV, handler);
	return parse_header(NULL);
}

static int write_zero(void)
{
	volatile int *volatile none = (int *)0x20;
	*none = 1;
	return 0;
}

static int crash(const char *how)
{
	if (!strcmp(how, "library"))
		return parse_header(NULL);
	if (!strcmp(how, "divide"))
		return divide(zero);
	if (!strcmp(how, "illegal"))
		return undefined_instruction();
	if (!strcmp(how, "jump"))
		return call_nowhere();
	if (!strcmp(how, "recurse"))
		return recurse(zero);
	if (!strcmp(how, "abort"))
		return give_up();
	if (!strcmp(how, "handled"))
		return handled();
	if (!strcmp(how, "write"))
		return write_zero();
	return 2;
}

int main(int argc, char **argv)
{
	sigset_t set;
	int number;
	if (argc < 2)
		return 2;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigwait(&set, &number);
	int code = crash(argv[1]);
	printf("%d\n", code);
	return code;
}
