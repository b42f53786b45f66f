package main

import (
	"context"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"
)

const (
	checkInterval = 250 * time.Millisecond
	checkTimeout  = 2 * time.Second
)

// A balancer sends each request to the next server that is ready, and so each WebSocket.
type balancer struct {
	backends []*backend
	next     atomic.Uint32
}

type backend struct {
	url   *url.URL
	proxy *httputil.ReverseProxy
	ready atomic.Bool
}

func newBalancer(nodes []node) *balancer {
	b := new(balancer)
	for _, n := range nodes {
		target := &url.URL{Scheme: "http", Host: n.HTTP}
		b.backends = append(b.backends, &backend{url: target, proxy: &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(target)
				r.Out.Host = r.In.Host // the server compares it with Origin
				r.SetXForwarded()
			},
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				log.Printf("proxy: %v", err)
				w.WriteHeader(http.StatusBadGateway)
			},
		}})
	}
	return b
}

func (b *balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for range b.backends {
		next := b.backends[int(b.next.Add(1))%len(b.backends)]
		if next.ready.Load() {
			// A server may answer before the proxy has seen the end of a request's body. By default net/http then closes that
			// body, which the proxy takes for a failure of the request: it would cut the answer.
			_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 always is
			next.proxy.ServeHTTP(w, r)
			return
		}
	}
	w.Header().Set("Retry-After", "1")
	http.Error(w, "no server is ready", http.StatusServiceUnavailable)
}

// watch asks the servers whether they are ready.
func (b *balancer) watch(ctx context.Context) {
	client := &http.Client{Timeout: checkTimeout}
	defer client.CloseIdleConnections()
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	for {
		for _, backend := range b.backends {
			backend.ready.Store(isReady(ctx, client, backend.url))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func isReady(ctx context.Context, client *http.Client, base *url.URL) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("readyz").String(), nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
