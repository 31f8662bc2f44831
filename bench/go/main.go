// SPDX-License-Identifier: MIT

// The same benchmarks in Go, under the same names and arguments as the programs
// of ../treadle; they print the same numbers.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

func text(i int, otherwise string) string {
	if len(os.Args) <= i {
		return otherwise
	}
	return os.Args[i]
}

func number(i, otherwise int) int {
	if len(os.Args) <= i {
		return otherwise
	}
	n, err := strconv.Atoi(os.Args[i])
	if err != nil {
		panic(err)
	}
	return n
}

// One warm-up of a tenth, one timed run; nanoseconds per operation.
func measure(processors int, run func(int), n int) {
	runtime.GOMAXPROCS(processors)
	n = number(2, n)
	run(n/10 + 1)
	start := time.Now()
	run(n)
	fmt.Printf("%.2f\n", float64(time.Since(start).Nanoseconds())/float64(n))
}

func main() {
	switch os.Args[1] {
	case "yield":
		measure(1, yield, 5000000)
	case "spawn":
		batch = number(3, 1)
		measure(1, spawn, 2000000)
	case "chan":
		measure(1, channel, 2000000)
	case "buffered":
		measure(1, buffered, 5000000)
	case "select":
		measure(1, selects, 1000000)
	case "mutex":
		measure(1, mutex, 20000000)
	case "timer":
		others = number(4, 0)
		measure(1, timers(text(3, "reset")), 2000000)
	case "pin":
		measure(number(3, 1), pinned, 100000)
	case "sleep":
		sleep(number(2, 2000))
	case "hog":
		hog(number(2, 20))
	case "million":
		million(number(2, 1000000))
	case "deadline":
		measure(1, deadlines, 5000000)
	case "idle":
		idle(number(2, 9000), text(3, ""))
	case "copy":
		copies(number(2, 300), text(3, ""))
	case "http":
		hello()
	case "echo":
		echo(text(2, ""), number(3, 0))
	default:
		fmt.Fprintln(os.Stderr, "bench: no such benchmark:", os.Args[1])
		os.Exit(2)
	}
}
