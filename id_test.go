package mooncore

import (
	"regexp"
	"sync"
	"testing"

	"github.com/mooncore/mooncore/internal/race"
)

func TestNewID(t *testing.T) {
	const callers, each = 8, 8000
	ids := make([][]string, callers)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			for range each {
				ids[i] = append(ids[i], newID())
			}
		})
	}
	wg.Wait()
	form := regexp.MustCompile(`^[A-Z2-7]{26}$`)
	seen := map[string]bool{}
	letters := map[[2]byte]bool{} // place and letter
	for _, own := range ids {
		for _, id := range own {
			if seen[id] || !form.MatchString(id) {
				t.Fatalf("id %q, seen %v", id, seen[id])
			}
			seen[id] = true
			for place := range len(id) {
				letters[[2]byte{byte(place), id[place]}] = true
			}
		}
	}
	if want := 26 * 32; len(letters) != want {
		t.Errorf("%d of %d: not every letter stands in every place", len(letters), want)
	}
}

func TestNewIDAllocations(t *testing.T) {
	if race.Enabled {
		t.Skip("pools lose things under the race detector")
	}
	if n := testing.AllocsPerRun(100, func() { newID() }); n > 0 { // rounded down: there are some for each 16 ids
		t.Errorf("%v allocations; want 0", n)
	}
}
