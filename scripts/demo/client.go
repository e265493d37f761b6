package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// oneShot opens a new connection for each request, so that each one is
// balanced anew.
var oneShot = &http.Client{
	Timeout:   2 * time.Second,
	Transport: &http.Transport{DisableKeepAlives: true},
}

// ask sends one request to addr and returns the name of the backend that
// answered.
func ask(addr string) (string, error) {
	resp, err := oneShot.Get("http://" + addr + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 100))
	return strings.TrimSpace(string(body)), err
}

// askTimes sends n requests one after the other and returns who answered.
func askTimes(addr string, n int) ([]string, error) {
	names := make([]string, n)
	for i := range names {
		name, err := ask(addr)
		if err != nil {
			return nil, fmt.Errorf("request %d of %d: %w", i+1, n, err)
		}
		names[i] = name
	}
	return names, nil
}

// readPeek returns what Peek says to whoever connects, as nc would show it.
func readPeek(addr string) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	text, err := io.ReadAll(conn)
	return string(text), err
}

// refused reports whether nobody listens on addr any more.
func refused(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// await tries done every millisecond until it is true, and returns when that
// was. what says in the error what never came true.
func await(ctx context.Context, what string, done func() bool) (time.Time, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if done() {
			return time.Now(), nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("waited in vain until %s: %w", what, context.Cause(ctx))
		}
	}
}
