package httppeers

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/mooncore/mooncore/bench/internal/wire"
)

// A plainTask is a task without the tags of anybody's rules.
type plainTask struct {
	Title    string   `json:"title"`
	Note     string   `json:"note"`
	Priority int      `json:"priority"`
	Done     bool     `json:"done"`
	Tags     []string `json:"tags"`
}

// check is for libraries that leave validation to the program.
func (t *plainTask) check() error {
	switch {
	case t.Title == "" || len(t.Title) > 200:
		return errors.New("title must have 1 to 200 characters")
	case len(t.Note) > 2000:
		return errors.New("note must have at most 2000 characters")
	case t.Priority < 1 || t.Priority > 5:
		return errors.New("priority must be 1 to 5")
	case len(t.Tags) > 10:
		return errors.New("tags must be at most 10")
	}
	return nil
}

const maxBody = 1 << 20

// startFixed reads the body and answers always the same: the least that a server of net/http can do.
func startFixed(ln net.Listener) (wire.HTTP, error) {
	answer := []byte(`{"ok":true}`)
	length := []string{strconv.Itoa(len(answer))}
	contentType := []string{"application/json"}
	serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
			return
		}
		h := w.Header()
		h["Content-Type"], h["Content-Length"] = contentType, length
		_, _ = w.Write(answer)
	}))
	h := post(path, "")
	h.Response = string(answer)
	return h, nil
}

// startFixedToken does the same. Its requests bring a header as large as a token of RS256, at which nobody looks.
func startFixedToken(ln net.Listener) (wire.HTTP, error) {
	h, err := startFixed(ln)
	h.Header = append(h.Header, "Authorization: Bearer "+strings.Repeat("a", 611))
	return h, err
}

// startHand is what one writes with net/http and encoding/json.
func startHand(ln net.Listener) (wire.HTTP, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+path, createTask)
	serve(ln, mux)
	return post(path, "\n"), nil
}

func createTask(w http.ResponseWriter, r *http.Request) {
	var t plainTask
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&t); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := t.check(); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(t)
}
