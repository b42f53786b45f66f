package devtools_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/devtools"
)

type order struct {
	Item  string   `json:"item" validate:"required,min_length=1,max_length=100"`
	Count int      `json:"count" validate:"required,min=1"`
	Tags  []string `json:"tags"`
}

type receipt struct {
	ID    string `json:"id"`
	Item  string `json:"item"`
	Total int    `json:"total"`
}

func buy(_ context.Context, in order) (receipt, error) {
	return receipt{"r-1", in.Item, in.Count * 7}, nil
}

const orderParams = `{"item":"Moon cake","count":3,"tags":["sweet","round"]}`

func shop(extensions ...mooncore.Extension) mooncore.Config {
	return mooncore.Config{
		Development: true, DevTools: true, Logger: slog.New(slog.DiscardHandler), Extensions: extensions,
		Routers: []mooncore.Router{{
			Roles: []string{"user"},
			Actions: []mooncore.Action{
				{Name: "buy", Allow: mooncore.Public, Handler: mooncore.Func(buy)},
			},
		}},
	}
}

// cpuTime is the CPU time of the process, which other processes disturb less than the clock.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkCall compares a call in a program without the developer tools, with them off, and on, by each way to call.
func BenchmarkCall(b *testing.B) {
	for _, mode := range []string{"absent", "off", "on"} {
		b.Run("dev="+mode, func(b *testing.B) {
			cfg := shop(devtools.Extension(devtools.Config{Addr: "127.0.0.1:0"}))
			switch mode {
			case "absent":
				cfg.Extensions = nil
			case "on":
				b.Setenv("MOONCORE_DEV_TOOLS", "true")
			}
			srv, err := mooncore.New(cfg)
			if err != nil {
				b.Fatal(err)
			}
			defer srv.Shutdown(context.Background())
			b.Run("go", func(b *testing.B) {
				b.ReportAllocs()
				cpu := cpuTime()
				defer func() { b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op") }()
				for b.Loop() {
					if _, err := srv.Call(b.Context(), &mooncore.Request{Action: "buy", Params: []byte(orderParams)}); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("http", func(b *testing.B) {
				server := httptest.NewServer(srv)
				defer server.Close()
				b.ReportAllocs()
				cpu := cpuTime()
				defer func() { b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op") }()
				for b.Loop() {
					resp, err := http.Post(server.URL+"/run/buy", "application/json", strings.NewReader(orderParams))
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		})
	}
}
