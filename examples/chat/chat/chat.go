package chat

import (
	"context"
	"crypto/rand"
	"regexp"
	"strings"
	"time"

	"github.com/mooncore/mooncore"
)

// lobby is the one tenant of the chat: everybody in it can meet.
const lobby = "lobby"

func (c *chat) router() mooncore.Router {
	return mooncore.Router{
		Channels: []mooncore.Channel{
			{Name: "room-*", Allow: mooncore.Authenticated, Join: c.join, Presence: true,
				History: mooncore.History{Events: keptMessages, Age: keptTime}},
		},
		Actions: []mooncore.Action{
			{Name: "login", Allow: mooncore.Public, Handler: mooncore.Func(login),
				Description: "Answers a token for a name that nobody here has."},
			{Name: "say", Allow: mooncore.Authenticated, Handler: mooncore.Func(c.say),
				Description: "Says something to everybody in a room."},
			{Name: "whisper", Allow: mooncore.Authenticated, Handler: mooncore.Func(whisper),
				Description: "Says something to one person who is here."},
			{Name: "who", Allow: mooncore.Authenticated, Handler: mooncore.Func(who), ReadOnly: true,
				Description: "Lists who is in a room."},
			{Name: "rooms", Allow: mooncore.Authenticated, Handler: mooncore.Func(c.list), ReadOnly: true,
				Description: "Lists the rooms, and how many are in each."},
		},
	}
}

// Login is the input of login.
type Login struct {
	Name string `json:"name" validate:"required,trimmed,min_length=2,max_length=20"`
}

var goodName = regexp.MustCompile(`^[\p{L}\p{N}][\p{L}\p{M}\p{N} ._-]*$`)

// Validate checks what tags can't say.
func (in Login) Validate() error {
	if !goodName.MatchString(in.Name) {
		return mooncore.FieldError("name",
			"must start with a letter or digit, and may have letters, digits, spaces, dots, dashes and underscores")
	}
	return nil
}

// login answers with a token, which the page sends back as ["jwt", token]. There are no passwords: a name is free when nobody
// who is connected has it, and then it changes hands: tokens that somebody got for it before are good no more.
func login(ctx context.Context, in Login) (string, error) {
	req := mooncore.RequestFrom(ctx)
	id := mooncore.Identity{User: in.Name, Tenant: lobby}
	if req.Identity.User == in.Name {
		return req.Server().Token(id) // a fresh one, before the old one expires
	}
	tenant := req.Server().Tenant("", lobby)
	switch _, taken, err := online(ctx, tenant, in.Name); {
	case err != nil:
		return "", err
	case taken:
		return "", mooncore.Errorf(mooncore.CodeAlreadyExists, "Somebody called %s is here already", in.Name)
	}
	if err := tenant.Revoke(ctx, in.Name); err != nil {
		return "", err
	}
	return req.Server().Token(id)
}

// lounge is the channel that every page joins, whatever its rooms. Nothing is published to it: it tells who is here, on all servers.
const lounge = "main"

// online looks for who is connected under a name, in whatever case.
func online(ctx context.Context, tenant mooncore.Tenant, name string) (user string, ok bool, err error) {
	for conn := range tenant.Conns() { // it may not have joined yet
		if user := conn.Identity().User; strings.EqualFold(user, name) {
			return user, true, nil
		}
	}
	members, err := tenant.Members(ctx, lounge)
	for _, m := range members {
		if strings.EqualFold(m.User, name) {
			return m.User, true, nil
		}
	}
	return "", false, err
}

// A Message was said in a room, or to one person.
type Message struct {
	ID   string    `json:"id"`
	Room string    `json:"room,omitempty"`
	To   string    `json:"to,omitempty"`
	From string    `json:"from"`
	Text string    `json:"text"`
	At   time.Time `json:"at"`
}

// Say is the input of say.
type Say struct {
	Room string `json:"room" validate:"required,regex='^room-[\\p{L}\\p{N}-]{1,30}$'"`
	Text string `json:"text" validate:"required,trimmed,min_length=1,max_length=1000"`
}

func (c *chat) say(ctx context.Context, in Say) (Message, error) {
	if err := c.use(in.Room); err != nil {
		return Message{}, err
	}
	req := mooncore.RequestFrom(ctx)
	m := Message{ID: rand.Text(), Room: in.Room, From: req.Identity.User, Text: in.Text, At: time.Now()}
	return m, req.Tenant().Publish(ctx, "message", m, mooncore.ToChannel(in.Room))
}

// Whisper is the input of whisper.
type Whisper struct {
	To   string `json:"to" validate:"required,min_length=1"`
	Text string `json:"text" validate:"required,trimmed,min_length=1,max_length=1000"`
}

// whisper reaches all windows of two people, and is kept nowhere.
func whisper(ctx context.Context, in Whisper) (Message, error) {
	req := mooncore.RequestFrom(ctx)
	to, ok, err := online(ctx, req.Tenant(), in.To)
	switch {
	case err != nil:
		return Message{}, err
	case !ok:
		return Message{}, mooncore.Errorf(mooncore.CodeNotFound, "%s is not here", in.To)
	}
	m := Message{ID: rand.Text(), To: to, From: req.Identity.User, Text: in.Text, At: time.Now()}
	return m, req.Tenant().Publish(ctx, "whisper", m, mooncore.ToUser(to), mooncore.ToUser(m.From))
}

// Room is the input of who.
type Room struct {
	Room string `json:"room" validate:"required,regex='^room-[\\p{L}\\p{N}-]{1,30}$'"`
}

func who(ctx context.Context, in Room) ([]mooncore.Member, error) {
	return mooncore.RequestFrom(ctx).Tenant().Members(ctx, in.Room)
}
