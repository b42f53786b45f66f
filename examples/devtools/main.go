// Devtools is the chat with the developer tools: a dashboard on a listener of its own, with guides, and a page that the program made.
//
//	DEV_FLAG=true MOONCORE_DEV_TOOLS=true go run ./examples/devtools
//
// Then open the link that it logs. DEV_FLAG=true sets Config.DevTools, as a program may do in its development; DEV_ADDR makes the
// dashboard listen elsewhere; the chat itself is on http://127.0.0.1:4000, or on PORT.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/devtools"
	"github.com/mooncore/mooncore/examples/chat/chat"
)

// A house looks after the chat.
type house struct {
	srv       atomic.Pointer[mooncore.Server]
	announced atomic.Int64
}

// Announcement is what everybody who is connected should read.
type Announcement struct {
	Text string `json:"text" validate:"required,min_length=1,max_length=200" jsonschema:"what everybody reads"`
}

// announce says something in all rooms.
func (h *house) announce(ctx context.Context, in Announcement) (string, error) {
	tenant := h.srv.Load().Tenant("", "lobby")
	rooms := h.rooms()
	for room := range rooms {
		message := chat.Message{ID: fmt.Sprintf("announcement-%d", h.announced.Add(1)), Room: room, From: "The house", Text: in.Text}
		if err := tenant.Publish(ctx, "message", message, mooncore.ToChannel(room)); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("Said in %d rooms", len(rooms)), nil
}

// rooms counts who is where.
func (h *house) rooms() map[string]float64 {
	rooms := map[string]float64{}
	for conn := range h.srv.Load().Tenant("", "lobby").Conns() {
		for _, channel := range conn.Channels() {
			if room, ok := roomOf(channel); ok {
				rooms[room]++
			}
		}
	}
	return rooms
}

func roomOf(channel string) (string, bool) {
	const scope = ":default"
	if len(channel) <= len(scope) || channel[:5] != "room-" {
		return "", false
	}
	return channel[:len(channel)-len(scope)], true
}

// page shows the chat to developers.
func (h *house) page() devtools.Page {
	return devtools.Page{
		Name: "chat", Title: "Chat", Description: "Who is in the rooms, and what the house can do about it.",
		Widgets: []devtools.Widget{
			{Title: "In rooms", Unit: "people", Value: devtools.Number(func(context.Context) (float64, error) {
				total := 0.0
				for _, n := range h.rooms() {
					total += n
				}
				return total, nil
			})},
			{Title: "By room", Value: devtools.Line(func(context.Context) (map[string]float64, error) { return h.rooms(), nil })},
			{Title: "Rooms", Value: devtools.Table([]string{"room", "people"}, func(context.Context) ([][]any, error) {
				var rows [][]any
				for room, n := range h.rooms() {
					rows = append(rows, []any{room, n})
				}
				slices.SortFunc(rows, func(a, b []any) int { return slices.Compare([]string{a[0].(string)}, []string{b[0].(string)}) })
				return rows, nil
			})},
			{Title: "House", Value: devtools.KeyValue(func(context.Context) ([][2]string, error) {
				return [][2]string{{"announcements", fmt.Sprint(h.announced.Load())}, {"tenant", "lobby"}}, nil
			})},
			{Title: "Rules", Value: devtools.List(func(context.Context) ([]string, error) {
				return []string{"Be kind.", "No passwords in messages: everybody reads them."}, nil
			})},
			{Title: "About", Value: devtools.Text(func(context.Context) (string, error) {
				return "Messages are kept in memory for an hour, the last 200 of each room.", nil
			})},
		},
		Buttons: []devtools.Button{
			{Label: "Announce", Description: "Says something in every room where somebody is.", Run: mooncore.Func(h.announce)},
		},
	}
}

func config() mooncore.Config {
	h := &house{}
	cfg := chat.Config()
	cfg.DevTools = os.Getenv("DEV_FLAG") == "true"
	cfg.Extensions = []mooncore.Extension{
		func(srv *mooncore.Server) error { h.srv.Store(srv); return nil },
		devtools.Extension(devtools.Config{
			Addr:   os.Getenv("DEV_ADDR"),
			Guides: guides(),
			Pages:  []devtools.Page{h.page()},
		}),
	}
	return cfg
}

// guides is the directory of the guides, wherever in the repository the program was started; "" if it is not there.
func guides() string {
	for _, dir := range []string{"guides", filepath.Join("examples", "devtools", "guides")} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return ""
}

func main() {
	if err := mooncore.Run(config()); err != nil {
		log.Fatal(err)
	}
}
