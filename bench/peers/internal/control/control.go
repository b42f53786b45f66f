// Package control lets the runner and the load generator look into a server under load: its memory, its profiles, and publish
// commands.
package control

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	httppprof "net/http/pprof"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// Run is Serve for a server that takes commands if publish isn't nil: lines "<number of publishes> <bytes> <sequence number of the
// first>". It answers each, when the publishes have returned, with the nanoseconds that they took. publish sends one payload to all
// members of the one channel.
func Run(srv wire.Server, publish func(payload []byte)) error {
	if publish != nil {
		var err error
		srv.Commands, err = Listen(func(line string) string {
			var n, size, seq int
			if _, err := fmt.Sscan(line, &n, &size, &seq); err != nil {
				return err.Error()
			}
			var blocked time.Duration
			for i := range n {
				at := time.Now()
				publish(wire.Event(seq+i, at.UnixNano(), size))
				blocked += time.Since(at)
			}
			return fmt.Sprint(blocked.Nanoseconds())
		})
		if err != nil {
			return err
		}
	}
	return Serve(srv)
}

// Serve prints srv, completed, on standard output as one line of JSON, and serves the control endpoints until standard input
// ends.
func Serve(srv wire.Server) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /memory", memory)
	mux.HandleFunc("GET /debug/pprof/", httppprof.Index)
	mux.HandleFunc("GET /profile/start", startProfile)
	mux.HandleFunc("GET /profile/stop", stopProfile)
	mux.HandleFunc("GET /debug/pprof/profile", httppprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", httppprof.Trace)
	go func() { _ = http.Serve(ln, mux) }()
	if srv.PID == 0 {
		srv.PID = os.Getpid()
	}
	srv.Control = ln.Addr().String()
	if err := json.NewEncoder(os.Stdout).Encode(srv); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// Listen takes connections, and answers each line that comes. It returns the address.
func Listen(answer func(line string) string) (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for lines := bufio.NewScanner(conn); lines.Scan(); {
					if _, err := fmt.Fprintln(conn, answer(lines.Text())); err != nil {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String(), nil
}

func memory(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("gc") != "" {
		runtime.GC()
		runtime.GC() // sync.Pool keeps its content through one
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	_ = json.NewEncoder(w).Encode(wire.Memory{
		Mallocs: m.Mallocs, TotalAlloc: m.TotalAlloc, HeapInuse: m.HeapInuse, StackInuse: m.StackInuse, GCs: m.NumGC,
	})
}

// profile is the CPU profile that is being made. One load generator at a time asks for it.
var profile bytes.Buffer

func startProfile(w http.ResponseWriter, _ *http.Request) {
	profile.Reset()
	if err := pprof.StartCPUProfile(&profile); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
	}
}

func stopProfile(w http.ResponseWriter, _ *http.Request) {
	pprof.StopCPUProfile()
	_, _ = w.Write(profile.Bytes())
}
