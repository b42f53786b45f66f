package mooncore

import (
	"regexp"
	"sync"
	"testing"

	"github.com/mooncore/mooncore/internal/race"
)

func TestNewID(t *testing.T) {
	const goroutines, each = 8, 1000
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[string]bool{}
	letters := regexp.MustCompile(`^[A-Z2-7]{26}$`)
	for range goroutines {
		wg.Go(func() {
			for range each {
				id := newID()
				mu.Lock()
				if seen[id] || !letters.MatchString(id) {
					t.Errorf("%q is no id, or stands twice", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestNewIDAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("pools lose things under the race detector")
	}
	if n := testing.AllocsPerRun(100, func() { newID() }); n > 1 {
		t.Errorf("%v allocations; want 1", n)
	}
}
