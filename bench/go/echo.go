// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"net"
	"runtime"
)

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

func computeForEver() {
	for i := 0; ; i++ {
	}
}

func pingPong() {
	there, back := make(chan int), make(chan int)
	go func() {
		for v := range there {
			back <- v
		}
	}()
	for i := 0; ; i++ {
		there <- i
		<-back
	}
}

// The echo server, alone or beside n goroutines that compute without end
// ("hogs"), or n pairs per P that play ping-pong on channels ("pairs"); or a
// connection is closed as soon as it is accepted ("close").
func echo(beside string, n int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("listening on %s\n", l.Addr())
	switch beside {
	case "hogs":
		for i := 0; i < n; i++ {
			go computeForEver()
		}
	case "pairs":
		for i := 0; i < n*runtime.GOMAXPROCS(0); i++ {
			go pingPong()
		}
	}
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		if beside == "close" {
			c.Close()
			continue
		}
		go serve(c)
	}
}
