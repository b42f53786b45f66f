package redisbroker

import (
	"context"
	"crypto/tls"
	"net"
	"sync"

	"github.com/redis/rueidis"
)

// dialed are the open connections and those being opened, so that they can be cut: the client itself waits for an answer before it
// closes one.
type dialed struct {
	mu    sync.Mutex
	conns map[*conn]struct{}
	live  context.Context // of those being opened
	end   context.CancelFunc
}

type conn struct {
	net.Conn
	all *dialed
}

func (c *conn) Close() error {
	c.all.mu.Lock()
	delete(c.all.conns, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// through makes the client's connections known.
func (d *dialed) through(option *rueidis.ClientOption) {
	d.conns = make(map[*conn]struct{})
	d.live, d.end = context.WithCancel(context.Background())
	dial := option.DialCtxFn
	if dial == nil && option.DialFn != nil {
		old := option.DialFn
		dial = func(_ context.Context, addr string, dialer *net.Dialer, conf *tls.Config) (net.Conn, error) {
			return old(addr, dialer, conf)
		}
	}
	if dial == nil {
		dial = func(ctx context.Context, addr string, dialer *net.Dialer, conf *tls.Config) (net.Conn, error) {
			if conf == nil {
				return dialer.DialContext(ctx, "tcp", addr)
			}
			return (&tls.Dialer{NetDialer: dialer, Config: conf}).DialContext(ctx, "tcp", addr)
		}
	}
	option.DialCtxFn = func(ctx context.Context, addr string, dialer *net.Dialer, conf *tls.Config) (net.Conn, error) {
		d.mu.Lock()
		live := d.live
		d.mu.Unlock()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(live, cancel)()
		nc, err := dial(ctx, addr, dialer, conf)
		if err != nil {
			return nil, err
		}
		c := &conn{nc, d}
		d.mu.Lock()
		defer d.mu.Unlock()
		if live.Err() != nil {
			nc.Close()
			return nil, live.Err()
		}
		d.conns[c] = struct{}{}
		return c, nil
	}
}

// cut closes all connections, and lets those being opened fail.
func (d *dialed) cut() {
	d.mu.Lock()
	conns := d.conns
	d.conns = make(map[*conn]struct{})
	d.end()
	d.live, d.end = context.WithCancel(context.Background())
	d.mu.Unlock()
	for c := range conns {
		c.Conn.Close()
	}
}
