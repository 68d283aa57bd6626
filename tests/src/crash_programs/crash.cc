// Waits for SIGUSR1, and then crashes: by an exception that nothing catches, or in a function of a template.
#include <csignal>
#include <cstring>
#include <stdexcept>

namespace shop {
template <typename T> struct Basket {
	T *items;
	__attribute__((noinline)) T first(int at) const { return items[at]; }
};
} // namespace shop

int main(int argc, char **argv)
{
	sigset_t set;
	int number;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, nullptr);
	sigwait(&set, &number);
	if (argc > 1 && !strcmp(argv[1], "throw"))
		throw std::runtime_error("out of cheese");
	shop::Basket<long> basket{nullptr};
	return static_cast<int>(basket.first(argc));
}
