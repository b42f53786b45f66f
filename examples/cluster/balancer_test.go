package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A server may answer before a request's body has ended: the answer comes through whole.
func TestBalancerAnswersEarly(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(r.Body, make([]byte, 1)); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, "early")
	}))
	defer backend.Close()
	b := newBalancer([]node{{HTTP: backend.Listener.Addr().String()}})
	b.backends[0].ready.Store(true)
	proxy := httptest.NewServer(b)
	defer proxy.Close()

	body, more := io.Pipe()
	go func() { _, _ = more.Write([]byte("x")) }() // its end comes after the answer
	defer more.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, proxy.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "early" {
		t.Errorf("got %q, error %v", got, err)
	}
}
