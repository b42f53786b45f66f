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

// What a chat remembers. Past it, the oldest message of a room and the room that was quiet for longest are forgotten.
const (
	maxMessages = 50
	maxRooms    = 100
)

// A chat is what was said last in the rooms of one server, in memory.
type chat struct {
	mu    sync.Mutex
	rooms map[string]*room
}

type room struct {
	messages []Message
	used     time.Time
}

func newChat() *chat {
	c := &chat{rooms: map[string]*room{}}
	for _, name := range []string{"room-general", "room-random"} {
		c.room(name)
	}
	return c
}

// room returns a room, which it opens if need be. The caller holds c.mu.
func (c *chat) room(name string) *room {
	r := c.rooms[name]
	if r == nil {
		r = &room{}
		c.rooms[name] = r
	}
	r.used = time.Now()
	if len(c.rooms) > maxRooms {
		delete(c.rooms, slices.MinFunc(slices.Collect(maps.Keys(c.rooms)), func(a, b string) int {
			return c.rooms[a].used.Compare(c.rooms[b].used)
		}))
	}
	return r
}

var roomName = regexp.MustCompile(`^room-[\p{L}\p{N}-]{1,30}$`)

// join opens a room for the first who joins it.
func (c *chat) join(_ context.Context, _ mooncore.Identity, name string) error {
	if !roomName.MatchString(name) {
		return mooncore.Errorf(mooncore.CodeInvalidArgument, "no room's name")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.room(name)
	return nil
}

func (c *chat) remember(m Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.room(m.Room)
	r.messages = append(r.messages, m)
	if len(r.messages) > maxMessages {
		r.messages = slices.Delete(r.messages, 0, 1)
	}
}

func (c *chat) history(_ context.Context, in Room) ([]Message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	messages := []Message{} // never null
	if r := c.rooms[in.Room]; r != nil {
		messages = append(messages, r.messages...)
	}
	return messages, nil
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
