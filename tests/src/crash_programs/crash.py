# Waits for SIGUSR1, and then reads address 0 in a C function.
import ctypes
import signal

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
signal.sigwait([signal.SIGUSR1])
ctypes.string_at(0)
