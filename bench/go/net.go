// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func listenLocal() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	return l
}

func port(l net.Listener) string { return strconv.Itoa(l.Addr().(*net.TCPAddr).Port) }

var deadlined net.Conn

func deadlines(n int) {
	if deadlined == nil {
		l := listenLocal()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			panic(err)
		}
		deadlined = c
	}
	when := time.Now().Add(time.Hour)
	for i := 0; i < n; i++ {
		deadlined.SetReadDeadline(when.Add(time.Duration(i)))
	}
}

func residentBytes() int {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	pages, _ := strconv.Atoi(strings.Fields(string(text))[1])
	return pages * os.Getpagesize()
}

// A goroutine and a buffer for each connection.
func idle(n int, clients string) {
	l := listenLocal()
	accepted := make(chan bool, n)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
			accepted <- true
		}
	}()
	runtime.GC()
	debug.FreeOSMemory()
	before := residentBytes()
	command := exec.Command(clients, port(l), strconv.Itoa(n))
	out, err := command.StdoutPipe()
	if err != nil || command.Start() != nil {
		panic("idle: no clients")
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		panic(err)
	}
	for i := 0; i < n; i++ {
		<-accepted
	}
	time.Sleep(100 * time.Millisecond)
	runtime.GC()
	debug.FreeOSMemory()
	fmt.Printf("%.1f\n", float64(residentBytes()-before)/float64(n))
	command.Process.Kill()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type onlyReader struct{ io.Reader }
type onlyWriter struct{ io.Writer }

// io.Copy splices; what hides the sockets' types from it does not.
func copies(n int, ends string) {
	runtime.GOMAXPROCS(1)
	const message = 1 << 20
	l := listenLocal()
	command := exec.Command(ends, port(l))
	if err := command.Start(); err != nil {
		panic(err)
	}
	from, err := l.Accept()
	if err != nil {
		panic(err)
	}
	to, err := l.Accept()
	if err != nil {
		panic(err)
	}
	byHand := func(bytes int64) {
		buf := make([]byte, 64*1024)
		io.CopyBuffer(onlyWriter{to}, onlyReader{io.LimitReader(from, bytes)}, buf)
	}
	var each [2]float64
	for hand := 0; hand < 2; hand++ {
		byHand(20 * message)
		begin := cpuTime()
		if hand == 1 {
			byHand(int64(n) * message)
		} else {
			io.CopyN(to, from, int64(n)*message)
		}
		each[hand] = float64((cpuTime() - begin).Nanoseconds()) / float64(n)
	}
	fmt.Printf("%.0f\n%.0f\n%.3f\n", each[0], each[1], each[1]/each[0])
	command.Process.Kill()
}

func hello() {
	l := listenLocal()
	fmt.Printf("listening on %s\n", l.Addr())
	http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "hello\n")
	}))
}
