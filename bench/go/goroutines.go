// SPDX-License-Identifier: MIT

package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
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

var stop, running atomic.Int32
var lastBegan atomic.Int64

func compute(began time.Time) {
	lastBegan.Store(int64(time.Since(began)))
	running.Add(1)
	for stop.Load() == 0 {
	}
	running.Add(-1)
}

// Computes without end on every P, while the caller is ready all the time.
func waitOfOne(hogs int) int64 {
	began := time.Now()
	stop.Store(0)
	for i := 0; i < hogs; i++ {
		go compute(began)
	}
	for int(running.Load()) < hogs {
		runtime.Gosched()
	}
	waited := int64(time.Since(began)) - lastBegan.Load()
	stop.Store(1)
	for running.Load() > 0 {
		runtime.Gosched()
	}
	return waited
}

func hog(rounds int) {
	waited := make([]int64, rounds)
	for i := range waited {
		waited[i] = waitOfOne(runtime.GOMAXPROCS(0))
	}
	slices.Sort(waited)
	fmt.Printf("%d\n%d\n", waited[rounds/2], waited[rounds-1])
}

func resident() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		panic(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	kilobytes, _ := strconv.Atoi(string(bytes.Fields(rest)[0]))
	return kilobytes * 1024
}

func mappings() int {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	return bytes.Count(maps, []byte("\n"))
}

// Many goroutines, all parked on a channel: bytes each, mappings, ns to start
// and park each.
func million(n int) {
	runtime.GOMAXPROCS(1)
	gate, arrived := make(chan int), 0
	before, start := resident(), time.Now()
	for i := 0; i < n; i++ {
		go func() {
			arrived++
			<-gate
			arrived--
		}()
		if i%128 == 0 {
			runtime.Gosched()
		}
	}
	for arrived < n {
		runtime.Gosched()
	}
	each := float64(time.Since(start).Nanoseconds()) / float64(n)
	fmt.Printf("%d\n%d\n%.1f\n", (resident()-before)/n, mappings(), each)
	close(gate)
	for arrived > 0 {
		runtime.Gosched()
	}
}
