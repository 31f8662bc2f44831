// SPDX-License-Identifier: MIT

// The same benchmarks in Go: bench yield|spawn|chan [n [batch]] prints
// nanoseconds per operation; bench echo is the echo server.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"time"
)

func yield(n int) {
	each, running := n/2, 1
	go func() {
		for i := 0; i < each; i++ {
			runtime.Gosched()
		}
		running--
	}()
	for i := 0; i < each; i++ {
		runtime.Gosched()
	}
	for running > 0 {
		runtime.Gosched()
	}
}

var ended, batch = 0, 1

func nothing() { ended++ }

func spawn(n int) {
	for started := 0; started < n; {
		ended = 0
		for upto := started + batch; started < upto; started++ {
			go nothing()
		}
		for ended < batch {
			runtime.Gosched()
		}
	}
}

func channel(n int) {
	there, back := make(chan int), make(chan int)
	go func() {
		for v := range there {
			back <- v
		}
		close(back)
	}()
	for i := 0; i < n; i++ {
		there <- i
		if v := <-back; v != i {
			panic(v)
		}
	}
	close(there)
	<-back
}

func serve(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if _, err = c.Write(buf[:n]); err != nil {
			return
		}
	}
}

func echo() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("listening on %s\n", l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go serve(c)
	}
}

func argument(i, otherwise int) int {
	if len(os.Args) <= i {
		return otherwise
	}
	n, err := strconv.Atoi(os.Args[i])
	if err != nil {
		panic(err)
	}
	return n
}

func measure(run func(int), n int) {
	runtime.GOMAXPROCS(1)
	run(n/10 + 1)
	start := time.Now()
	run(n)
	fmt.Printf("%.2f\n", float64(time.Since(start).Nanoseconds())/float64(n))
}

func main() {
	batch = argument(3, 1)
	switch os.Args[1] {
	case "yield":
		measure(yield, argument(2, 5000000))
	case "spawn":
		measure(spawn, argument(2, 2000000))
	case "chan":
		measure(channel, argument(2, 2000000))
	case "echo":
		echo()
	}
}
