// Package meter reads what a server under load has used: CPU and memory as the system counts them, allocations as the
// server's control endpoint tells.
package meter

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// A Usage is what a process has used since its start.
type Usage struct {
	User, System time.Duration
	Mallocs      uint64        // objects allocated
	Bytes        uint64        // bytes allocated
	Engine       time.Duration // CPU of the message broker
}

// Sub returns what was used since an earlier Usage.
func (u Usage) Sub(v Usage) Usage {
	return Usage{
		User: u.User - v.User, System: u.System - v.System, Mallocs: u.Mallocs - v.Mallocs, Bytes: u.Bytes - v.Bytes,
		Engine: u.Engine - v.Engine,
	}
}

// Metrics returns the metrics that follow from u for n operations: CPU and allocations of each.
func (u Usage) Metrics(n int) map[string]float64 {
	per := func(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) / float64(n) }
	return map[string]float64{
		"cpu_us": per(u.User + u.System), "user_us": per(u.User), "sys_us": per(u.System),
		"allocs": float64(u.Mallocs) / float64(n), "alloc_bytes": float64(u.Bytes) / float64(n), "engine_us": per(u.Engine),
	}
}

// Read returns what srv has used, all of its processes together.
func Read(ctx context.Context, srv wire.Server) (Usage, error) {
	var u Usage
	for _, p := range srv.Processes() {
		mem, err := memory(ctx, p.Control, false)
		if err != nil {
			return Usage{}, err
		}
		user, system, err := CPU(p.PID)
		if err != nil {
			return Usage{}, err
		}
		u.User, u.System = u.User+user, u.System+system
		u.Mallocs, u.Bytes = u.Mallocs+mem.Mallocs, u.Bytes+mem.TotalAlloc
	}
	if srv.Engine != 0 {
		user, system, err := CPU(srv.Engine)
		if err != nil {
			return Usage{}, err
		}
		u.Engine = user + system
	}
	return u, nil
}

// Memory asks srv for its memory statistics, with gc after a garbage collection.
func Memory(ctx context.Context, srv wire.Server, gc bool) (wire.Memory, error) {
	return memory(ctx, srv.Control, gc)
}

func memory(ctx context.Context, control string, gc bool) (wire.Memory, error) {
	url := "http://" + control + "/memory"
	if gc {
		url += "?gc=1"
	}
	var mem wire.Memory
	data, err := get(ctx, url)
	if err != nil {
		return mem, err
	}
	return mem, json.Unmarshal(data, &mem)
}

// HeapProfile writes a profile of the memory in use if srv is to be profiled.
func HeapProfile(ctx context.Context, srv wire.Server) error {
	if srv.Profile == "" {
		return nil
	}
	return save(ctx, "http://"+srv.Control+"/debug/pprof/heap", srv.Profile+".heap.pprof")
}

func save(ctx context.Context, url, file string) error {
	data, err := get(ctx, url)
	if err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.200s", url, resp.Status, data)
	}
	return data, err
}

// A Window is a time in which a server is measured.
type Window struct {
	srv   wire.Server
	began time.Time
	self  time.Duration
	usage Usage
}

// Begin starts to measure srv, and its CPU profile if it is to have one.
func Begin(ctx context.Context, srv wire.Server) (Window, error) {
	usage, err := Read(ctx, srv)
	if err != nil {
		return Window{}, err
	}
	if srv.Profile != "" {
		for _, p := range srv.Processes() {
			if _, err := get(ctx, "http://"+p.Control+"/profile/start"); err != nil {
				return Window{}, err
			}
		}
	}
	self, err := selfCPU()
	return Window{srv: srv, began: time.Now(), self: self, usage: usage}, err
}

// End returns the metrics of the window for n operations: rate, cpu_us, user_us, sys_us, allocs, alloc_bytes, engine_us, and
// load_cpu, the cores that the calling process has used.
func (w Window) End(ctx context.Context, n int) (map[string]float64, error) {
	took := time.Since(w.began)
	self, err := selfCPU()
	if err != nil {
		return nil, err
	}
	usage, err := Read(ctx, w.srv)
	if err != nil {
		return nil, err
	}
	if w.srv.Profile != "" {
		for i, p := range w.srv.Processes() {
			file := w.srv.Profile + ".cpu.pprof"
			if i > 0 {
				file = fmt.Sprintf("%s-%d.cpu.pprof", w.srv.Profile, i+1)
			}
			if err := save(ctx, "http://"+p.Control+"/profile/stop", file); err != nil {
				return nil, err
			}
		}
	}
	if n <= 0 {
		return nil, fmt.Errorf("no operation was completed in %v", took)
	}
	m := usage.Sub(w.usage).Metrics(n)
	m["rate"] = float64(n) / took.Seconds()
	m["load_cpu"] = (self - w.self).Seconds() / took.Seconds()
	return m, nil
}

func selfCPU() (time.Duration, error) {
	user, system, err := CPU(os.Getpid())
	return user + system, err
}
