package devtools

import (
	"bytes"
	"cmp"
	"fmt"
	"net/http"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"runtime/pprof"
	"runtime/trace"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mooncore/mooncore"
)

// maxStacks bounds the text of all stacks.
const maxStacks = 16 << 20

// goroutineReport is the goroutines of the program by stack.
type goroutineReport struct {
	Total  int              `json:"total"`
	Groups []goroutineGroup `json:"groups"`
}

type goroutineGroup struct {
	Count       int          `json:"count"`
	State       string       `json:"state,omitempty"`
	WaitMinutes int          `json:"wait_minutes,omitempty"`
	Frames      []stackFrame `json:"frames"`
	CreatedBy   *stackFrame  `json:"created_by,omitempty"`
}

type stackFrame struct {
	Func string `json:"func"`
	File string `json:"file"`
	Line int    `json:"line"`
}

func (t *tools) getGoroutines(*http.Request) (any, error) { return goroutines(), nil }

func goroutines() goroutineReport {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) || len(buf) >= maxStacks {
			return goroutineReport{Total: runtime.NumGoroutine(), Groups: groupStacks(string(buf[:n]))}
		}
		buf = make([]byte, 2*len(buf))
	}
}

// groupStacks parses the text of runtime.Stack, the biggest group first. What it does not understand it leaves out.
func groupStacks(text string) []goroutineGroup {
	groups := map[string]*goroutineGroup{}
	for block := range strings.SplitSeq(text, "\n\n") {
		head, stack, ok := strings.Cut(strings.TrimSpace(block), "\n")
		if !ok || !strings.HasPrefix(head, "goroutine ") {
			continue
		}
		g := goroutineGroup{Count: 1, Frames: []stackFrame{}}
		if _, inner, ok := strings.Cut(head, "["); ok {
			inner, _, _ = strings.Cut(inner, "]")
			state, rest, _ := strings.Cut(inner, ", ")
			g.State = state
			if minutes, ok := strings.CutSuffix(rest, " minutes"); ok {
				g.WaitMinutes, _ = strconv.Atoi(minutes)
			}
		}
		parseStack(&g, stack)
		key := g.State + "\n" + fmt.Sprint(g.Frames)
		if same := groups[key]; same != nil {
			same.Count++
			same.WaitMinutes = max(same.WaitMinutes, g.WaitMinutes)
			continue
		}
		groups[key] = &g
	}
	list := make([]goroutineGroup, 0, len(groups))
	for _, g := range groups {
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b goroutineGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(fmt.Sprint(a.Frames, a.State), fmt.Sprint(b.Frames, b.State)))
	})
	return list
}

// parseStack reads the lines of one goroutine: a function, then its place below it.
func parseStack(g *goroutineGroup, stack string) {
	lines := strings.Split(stack, "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		name, place := strings.TrimSpace(lines[i]), strings.TrimSpace(lines[i+1])
		place, _, _ = strings.Cut(place, " +0x")
		colon := strings.LastIndexByte(place, ':')
		if colon < 0 {
			return
		}
		frame := stackFrame{Func: name, File: place[:colon]}
		frame.Line, _ = strconv.Atoi(place[colon+1:])
		if creator, ok := strings.CutPrefix(name, "created by "); ok {
			creator, _, _ = strings.Cut(creator, " in goroutine ")
			frame.Func = creator
			g.CreatedBy = &frame
			return
		}
		if at := strings.LastIndexByte(name, '('); at > 0 {
			frame.Func = name[:at] // without the arguments
		}
		g.Frames = append(g.Frames, frame)
	}
}

// memoryReport is what the runtime holds.
type memoryReport struct {
	Classes     []memoryClass `json:"classes"`
	GCCycles    int64         `json:"gc_cycles"`
	LastGC      int64         `json:"last_gc,omitempty"`
	GOGC        int           `json:"gogc"`
	MemoryLimit int64         `json:"memory_limit_bytes"`
}

type memoryClass struct {
	Name        string `json:"name"`
	Bytes       uint64 `json:"bytes"`
	Description string `json:"description"`
}

func (t *tools) getMemory(*http.Request) (any, error) { return memory(), nil }

func memory() memoryReport {
	report := memoryReport{GOGC: -1, MemoryLimit: debug.SetMemoryLimit(-1)}
	if report.MemoryLimit == 1<<63-1 {
		report.MemoryLimit = -1
	}
	var samples []metrics.Sample
	descriptions := map[string]string{}
	for _, d := range metrics.All() {
		if strings.HasPrefix(d.Name, "/memory/classes/") || d.Name == "/gc/gogc:percent" {
			samples = append(samples, metrics.Sample{Name: d.Name})
			descriptions[d.Name] = d.Description
		}
	}
	metrics.Read(samples)
	for _, s := range samples {
		switch {
		case s.Value.Kind() != metrics.KindUint64, s.Name == "/memory/classes/total:bytes":
		case s.Name == "/gc/gogc:percent":
			if n := s.Value.Uint64(); n < 1<<31 {
				report.GOGC = int(n)
			}
		default:
			report.Classes = append(report.Classes, memoryClass{s.Name, s.Value.Uint64(), descriptions[s.Name]})
		}
	}
	var stats debug.GCStats
	debug.ReadGCStats(&stats)
	report.GCCycles = stats.NumGC
	if !stats.LastGC.IsZero() && stats.NumGC > 0 {
		report.LastGC = stats.LastGC.UnixMilli()
	}
	return report
}

func (t *tools) postGC(*http.Request) (any, error) {
	t.audit("garbage collection")
	runtime.GC()
	return nil, nil
}

const (
	profileTime    = 5 * time.Second
	maxProfileTime = 60 * time.Second
)

// profile takes a profile, or an execution trace, and returns it whole. Two of one kind can't be taken at once.
func (t *tools) profile(name string, seconds int, done <-chan struct{}) ([]byte, error) {
	lookup := pprof.Lookup(name)
	if lookup == nil && name != "cpu" && name != "trace" {
		return nil, mooncore.Errorf(mooncore.CodeNotFound, "no profile %q", name)
	}
	if _, taken := t.profiles.LoadOrStore(name, true); taken {
		return nil, mooncore.Errorf(mooncore.CodeAlreadyExists, "The profile %q is being taken", name)
	}
	defer t.profiles.Delete(name)
	t.audit("profile", "name", name)
	var b bytes.Buffer
	if lookup != nil {
		if name == "heap" || name == "allocs" {
			runtime.GC() // as go test does: what is shown is as of the last one
		}
		err := lookup.WriteTo(&b, 0)
		return b.Bytes(), err
	}
	start, stop := pprof.StartCPUProfile, pprof.StopCPUProfile
	if name == "trace" {
		start, stop = trace.Start, trace.Stop
	}
	if err := start(&b); err != nil {
		return nil, &mooncore.Error{Code: mooncore.CodeAlreadyExists, Message: fmt.Sprintf("The profile %q is being taken elsewhere", name), Err: err}
	}
	select {
	case <-time.After(time.Duration(seconds) * time.Second):
	case <-done:
	}
	stop()
	return b.Bytes(), nil
}

func (t *tools) serveProfile(w http.ResponseWriter, r *http.Request, _ session) {
	name := r.PathValue("name")
	seconds, err := intParam(r.URL.Query(), "seconds", int(profileTime/time.Second), 1, int(maxProfileTime/time.Second))
	if err != nil {
		writeError(w, err)
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // else the request would end before the profile
	extendWrite(w, time.Duration(seconds)*time.Second+answerTime)
	b, err := t.profile(name, seconds, r.Context().Done())
	if err != nil {
		writeError(w, err)
		return
	}
	extension := ".pprof"
	if name == "trace" {
		extension = ".trace"
	}
	file := filepath.Base(t.build.program()) + "-" + name + extension
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Disposition", `attachment; filename="`+strings.ReplaceAll(file, `"`, "")+`"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Write(b)
}
