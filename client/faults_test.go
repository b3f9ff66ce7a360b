package client

import "time"

// atOnce is a clock on which no time passes while one waits.
func atOnce(time.Duration) <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}
