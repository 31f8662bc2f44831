// SPDX-License-Identifier: MIT

package main

import (
	"runtime"
	"sync"
)

func reflect(there, back chan int) {
	for v := range there {
		back <- v
	}
	close(back)
}

func roundTrips(n int, reflect func(there, back chan int)) {
	there, back := make(chan int), make(chan int)
	go reflect(there, back)
	for i := 0; i < n; i++ {
		there <- i
		if v := <-back; v != i {
			panic(v)
		}
	}
	close(there)
	<-back
}

func channel(n int) { roundTrips(n, reflect) }

func pinned(n int) {
	roundTrips(n, func(there, back chan int) {
		runtime.LockOSThread()
		reflect(there, back)
		runtime.UnlockOSThread()
	})
}

func buffered(n int) {
	stream := make(chan int, 128)
	go func() {
		for i := 0; i < n; i++ {
			stream <- i
		}
		close(stream)
	}()
	for i := 0; i < n; i++ {
		if v := <-stream; v != i {
			panic(v)
		}
	}
	if _, ok := <-stream; ok {
		panic("one too many")
	}
}

// On both sides a receive is a select of two channels, one of which stays silent.
func selects(n int) {
	there, back, silent := make(chan int), make(chan int), make(chan int)
	go func() {
		for {
			select {
			case v, ok := <-there:
				if !ok {
					close(back)
					return
				}
				back <- v
			case <-silent:
				panic("silent")
			}
		}
	}()
	for i := 0; i < n; i++ {
		there <- i
		select {
		case v := <-back:
			if v != i {
				panic(v)
			}
		case <-silent:
			panic("silent")
		}
	}
	close(there)
	<-back
}

var shared sync.Mutex // not on a stack, where the compiler might see that nobody else wants it

func mutex(n int) {
	for i := 0; i < n; i++ {
		shared.Lock()
		shared.Unlock()
	}
}
