package devtools

import (
	"math"
	"runtime/metrics"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mooncore/mooncore"
)

// historyLength is how many seconds of metrics are kept.
const historyLength = 3600

// counters are what the recorder counts.
type counters struct {
	calls, errors, conns, framesIn, framesOut atomic.Uint64
	latency                                   histogram
}

// A metricPoint is one second of the program, or of a history's step.
type metricPoint struct {
	Time       int64    `json:"time"`
	Calls      float64  `json:"calls"`
	Errors     float64  `json:"errors"`
	P50        *float64 `json:"p50_ms"`
	P95        *float64 `json:"p95_ms"`
	P99        *float64 `json:"p99_ms"`
	Conns      float64  `json:"conns"`
	FramesIn   float64  `json:"frames_in"`
	FramesOut  float64  `json:"frames_out"`
	Events     float64  `json:"events"`
	Heap       float64  `json:"heap_bytes"`
	Memory     float64  `json:"memory_bytes"`
	Goroutines float64  `json:"goroutines"`
	GC         float64  `json:"gc"`
	GCPause    float64  `json:"gc_pause_ms"`
	CPU        *float64 `json:"cpu,omitempty"`
}

// A sampler takes a metricPoint each second. Its methods may be called concurrently, but for sample.
type sampler struct {
	counts *counters
	stats  func() mooncore.Stats

	samples []metrics.Sample
	last    struct {
		at                                              time.Time
		calls, errors, framesIn, framesOut, gcs, events uint64
		cpu                                             time.Duration
		latency                                         snapshot
		pauses                                          []uint64
	}

	mu     sync.Mutex
	points []metricPoint // a ring
	next   int           // where the next one goes
}

// What is read of the runtime, in the order of sampler.samples.
const (
	readHeap = iota
	readMemory
	readGoroutines
	readGCs
	readPauses
)

func newSampler(counts *counters, stats func() mooncore.Stats) *sampler {
	s := &sampler{counts: counts, stats: stats, samples: []metrics.Sample{
		readHeap:       {Name: "/memory/classes/heap/objects:bytes"},
		readMemory:     {Name: "/memory/classes/total:bytes"},
		readGoroutines: {Name: "/sched/goroutines:goroutines"},
		readGCs:        {Name: "/gc/cycles/total:gc-cycles"},
		readPauses:     {Name: "/sched/pauses/total/gc:seconds"},
	}}
	s.sample(time.Now())
	return s
}

// sample takes a point.
func (s *sampler) sample(now time.Time) {
	metrics.Read(s.samples)
	c, last, stats := s.counts, &s.last, s.stats()
	seconds := max(now.Sub(last.at).Seconds(), 1e-3)
	rate := func(total uint64, last *uint64) float64 {
		r := float64(total-*last) / seconds
		*last = total
		return r
	}
	latency := c.latency.snapshot()
	second := latency.since(&last.latency)
	last.latency = latency
	p := metricPoint{
		Time:  now.UnixMilli(),
		Calls: rate(c.calls.Load(), &last.calls), Errors: rate(c.errors.Load(), &last.errors),
		P50: percentileMS(&second, 50), P95: percentileMS(&second, 95), P99: percentileMS(&second, 99),
		Conns: float64(stats.Conns), Events: rate(stats.Delivered, &last.events), FramesIn: rate(c.framesIn.Load(), &last.framesIn), FramesOut: rate(c.framesOut.Load(), &last.framesOut),
		Heap: float64(s.samples[readHeap].Value.Uint64()), Memory: float64(s.samples[readMemory].Value.Uint64()),
		Goroutines: float64(s.samples[readGoroutines].Value.Uint64()),
		GC:         rate(s.samples[readGCs].Value.Uint64(), &last.gcs),
		GCPause:    s.longestPause(),
	}
	if cpu, ok := cpuTime(); ok {
		p.CPU = new((cpu - last.cpu).Seconds() / seconds)
		last.cpu = cpu
	}
	last.at = now
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.points) < historyLength {
		s.points = append(s.points, p)
	} else {
		s.points[s.next] = p
	}
	s.next = (s.next + 1) % historyLength
}

// longestPause is the longest stop of the world since the last sample, in milliseconds.
func (s *sampler) longestPause() float64 {
	h := s.samples[readPauses].Value.Float64Histogram()
	longest := 0.0
	for i, n := range h.Counts {
		if i < len(s.last.pauses) && n == s.last.pauses[i] || n == 0 {
			continue
		}
		if end := h.Buckets[i+1]; !math.IsInf(end, 1) {
			longest = end
		} else {
			longest = h.Buckets[i]
		}
	}
	s.last.pauses = slices.Clone(h.Counts)
	return longest * 1e3
}

func percentileMS(s *snapshot, p float64) *float64 {
	d, ok := s.percentile(p)
	if !ok {
		return nil
	}
	return new(milliseconds(d))
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// latest is the last point; the zero one at first.
func (s *sampler) latest() metricPoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.points) == 0 {
		return metricPoint{}
	}
	return s.points[(s.next-1+historyLength)%historyLength]
}

// maxPoints bounds the points of a history that are sent.
const maxPoints = 720

// history returns the points of the last seconds, oldest first, so many seconds in each that there are at most maxPoints. A point of
// several seconds has their mean; but their worst for latencies and pauses, and their last for what is no rate.
func (s *sampler) history(seconds int) (step int, points []metricPoint) {
	s.mu.Lock()
	n := min(seconds, len(s.points))
	points = make([]metricPoint, 0, n)
	for i := range n {
		points = append(points, s.points[(s.next-n+i+historyLength)%historyLength])
	}
	s.mu.Unlock()
	step = max(1, (seconds+maxPoints-1)/maxPoints)
	if step == 1 {
		return step, points
	}
	var merged []metricPoint
	for len(points) > 0 {
		size := min(step, len(points))
		merged = append(merged, mergePoints(points[:size]))
		points = points[size:]
	}
	return step, merged
}

func mergePoints(points []metricPoint) metricPoint {
	m := points[len(points)-1]
	n := float64(len(points))
	mean := func(field func(p *metricPoint) *float64) {
		sum := 0.0
		for i := range points {
			sum += *field(&points[i])
		}
		*field(&m) = sum / n
	}
	mean(func(p *metricPoint) *float64 { return &p.Calls })
	mean(func(p *metricPoint) *float64 { return &p.Errors })
	mean(func(p *metricPoint) *float64 { return &p.FramesIn })
	mean(func(p *metricPoint) *float64 { return &p.FramesOut })
	mean(func(p *metricPoint) *float64 { return &p.Events })
	mean(func(p *metricPoint) *float64 { return &p.GC })
	if m.CPU != nil {
		m.CPU = new(*m.CPU)
		mean(func(p *metricPoint) *float64 { return p.CPU })
	}
	worst := func(a, b *float64) *float64 {
		if a == nil || b != nil && *b > *a {
			return b
		}
		return a
	}
	for i := range points {
		p := &points[i]
		m.P50, m.P95, m.P99 = worst(m.P50, p.P50), worst(m.P95, p.P95), worst(m.P99, p.P99)
		m.GCPause = max(m.GCPause, p.GCPause)
	}
	return m
}
