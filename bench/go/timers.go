// SPDX-License-Identifier: MIT

package main

import (
	"fmt"
	"slices"
	"time"
)

var others int

func expectPending(pending bool) {
	if !pending {
		panic("it had fired")
	}
}

// One timer, again and again.
func timerReset(n int) {
	t := time.NewTimer(time.Hour)
	for i := 0; i < n; i++ {
		t.Reset(time.Hour)
		expectPending(t.Stop())
	}
}

func timerNew(n int) {
	for i := 0; i < n; i++ {
		expectPending(time.NewTimer(time.Hour).Stop())
	}
}

func timerAfter(n int) {
	for i := 0; i < n; i++ {
		expectPending(time.AfterFunc(time.Hour, nothing).Stop())
	}
}

// An hour ahead and cancelled before it fires, beside others that are pending.
func timers(how string) func(int) {
	run := map[string]func(int){"reset": timerReset, "new": timerNew, "after": timerAfter}[how]
	return func(n int) {
		pending := make([]*time.Timer, others)
		for i := range pending {
			pending[i] = time.AfterFunc(time.Hour+time.Duration(i)*time.Second, nothing)
		}
		run(n)
		for _, t := range pending {
			t.Stop()
		}
	}
}

// Sleeps of 50 µs: by how many ns they are too long, at the 50th and the 99th
// percentile.
func sleep(n int) {
	const length = 50 * time.Microsecond
	late := make([]int64, n)
	for i := range late {
		start := time.Now()
		time.Sleep(length)
		late[i] = int64(time.Since(start) - length)
	}
	slices.Sort(late)
	fmt.Printf("%d\n%d\n", late[n/2], late[n*99/100])
}
