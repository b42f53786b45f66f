package chat

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/mooncore/mooncore"
)

// What is kept of a room, and how many rooms there may be.
const (
	keptMessages = 200
	keptTime     = time.Hour
	maxRooms     = 100
)

// A chat is the rooms that a server knows.
type chat struct {
	mu    sync.Mutex
	rooms map[string]time.Time // when they were used last
}

func newChat() *chat {
	now := time.Now()
	return &chat{rooms: map[string]time.Time{"room-general": now, "room-random": now}}
}

// use opens a room if need be, in place of one of which nothing is kept any more.
func (c *chat) use(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, open := c.rooms[name]; !open && len(c.rooms) >= maxRooms {
		quiet := slices.MinFunc(slices.Collect(maps.Keys(c.rooms)), func(a, b string) int { return c.rooms[a].Compare(c.rooms[b]) })
		if time.Since(c.rooms[quiet]) < keptTime {
			return mooncore.Errorf(mooncore.CodeFailedPrecondition, "There are %d rooms already", maxRooms)
		}
		delete(c.rooms, quiet)
	}
	c.rooms[name] = time.Now()
	return nil
}

var roomName = regexp.MustCompile(`^room-[\p{L}\p{N}-]{1,30}$`)

func (c *chat) join(_ context.Context, _ mooncore.Identity, name string) error {
	if !roomName.MatchString(name) {
		return mooncore.Errorf(mooncore.CodeInvalidArgument, "no room's name")
	}
	return c.use(name)
}

// A RoomInfo is a line of the list of rooms.
type RoomInfo struct {
	Room    string `json:"room"`
	Members int    `json:"members"`
}

func (c *chat) list(ctx context.Context, _ struct{}) ([]RoomInfo, error) {
	c.mu.Lock()
	names := slices.Sorted(maps.Keys(c.rooms))
	c.mu.Unlock()
	tenant := mooncore.RequestFrom(ctx).Tenant()
	list := make([]RoomInfo, 0, len(names))
	for _, name := range names {
		members, err := tenant.Members(ctx, name)
		if err != nil {
			return nil, err
		}
		list = append(list, RoomInfo{name, len(members)})
	}
	return list, nil
}
