// Waits for SIGUSR1, and then reads address 0. The runtime takes the fault, and by GOTRACEBACK=crash raises SIGABRT.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

type basket struct{ items [4]int }

//go:noinline
func first(b *basket) int { return b.items[2] }

func main() {
	wait := make(chan os.Signal, 1)
	signal.Notify(wait, syscall.SIGUSR1)
	if err := os.WriteFile(os.Getenv("CRASH_READY"), nil, 0o600); err != nil {
		panic(err)
	}
	<-wait
	fmt.Println(first(nil))
}
