package chat

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
	"github.com/mooncore/mooncore/pubsub"
)

// testConfig is the program's, with a key that signs tokens.
func testConfig() mooncore.Config {
	cfg := Config()
	cfg.JWT.Secret = mooncore.Secret(rand.Text() + rand.Text())
	return cfg
}

// guest is who is logged in under a name.
func guest(name string) mooncore.Identity { return mooncore.Identity{User: name, Tenant: lobby} }

type presence struct {
	Channel      string
	Joined, Left []string
}

func TestLoginAnswersAToken(t *testing.T) {
	srv := mooncoretest.New(t, testConfig())
	stranger := srv.As(mooncore.Identity{}).Dial()
	var token string
	if err := stranger.Call("login", Login{"Ann 2"}, &token); err != nil {
		t.Fatal(err)
	}
	stranger.Send(`["jwt","` + token + `"]`)
	if got, want := stranger.Join("room-general"), []string{"room-general:default", "@Ann 2"}; !slices.Equal(got, want) {
		t.Errorf("channels %q, want %q", got, want)
	}
}

func TestLoginRefusesBadNames(t *testing.T) {
	stranger := mooncoretest.New(t, testConfig()).As(mooncore.Identity{})
	for _, test := range []struct{ name, text string }{
		{"", "must be at least 2 characters"},
		{"a", "must be at least 2 characters"},
		{strings.Repeat("a", 21), "must be at most 20 characters"},
		{" ann", "must not have leading or trailing whitespace"},
		{"<b>ann</b>", "must start with a letter or digit"},
		{"an\u202en", "must start with a letter or digit"},
		{"ann\n2", "must start with a letter or digit"},
	} {
		err := stranger.Call("login", Login{test.name}, nil)
		if got := mooncore.CodeOf(err); got != mooncore.CodeValidationFailed || !strings.Contains(err.Error(), test.text) {
			t.Errorf("login as %q: %v, want %q", test.name, err, test.text)
		}
	}
}

func TestANameHasOneHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := mooncoretest.New(t, testConfig())
		stranger := srv.As(mooncore.Identity{})
		ann := stranger.Dial()
		var token string
		if err := stranger.Call("login", Login{"ann"}, &token); err != nil {
			t.Fatal(err)
		}
		ann.Send(`["jwt","` + token + `"]`)
		ann.Join("room-general")
		if got := mooncore.CodeOf(stranger.Call("login", Login{"Ann"}, nil)); got != mooncore.CodeAlreadyExists {
			t.Errorf("login as somebody who is here: %q, want %q", got, mooncore.CodeAlreadyExists)
		}
		if err := ann.Call("login", Login{"ann"}, nil); err != nil {
			t.Errorf("a fresh token for oneself: %v", err)
		}

		ann.Send("quit")
		ann.Closed()
		time.Sleep(time.Minute)
		if err := stranger.Call("login", Login{"ann"}, nil); err != nil {
			t.Errorf("login under a free name: %v", err)
		}
		late := stranger.Dial()
		late.Send(`["jwt","` + token + `"]`)
		if got := late.Join("room-general"); len(got) > 0 {
			t.Errorf("the token of who had the name before is still good: joined %q", got)
		}
	})
}

func TestSayReachesItsRoomOnly(t *testing.T) {
	srv := mooncoretest.New(t, testConfig())
	ann, bob, eve := srv.As(guest("ann")).Dial(), srv.As(guest("bob")).Dial(), srv.As(guest("eve")).Dial()
	bob.Join("room-general")
	bob.Expect("presence", nil)
	eve.Join("room-random")
	eve.Expect("presence", nil)

	var said, got Message
	if err := ann.Call("say", Say{"room-general", "hi"}, &said); err != nil {
		t.Fatal(err)
	}
	bob.Expect("message", &got)
	if got != said || got.From != "ann" || got.Text != "hi" || got.Room != "room-general" || got.ID == "" {
		t.Errorf("bob got %+v, ann said %+v", got, said)
	}
	eve.ExpectNothing()
}

func TestWhisperReachesOnlyItsUser(t *testing.T) {
	srv := mooncoretest.New(t, testConfig())
	ann, bob, eve := srv.As(guest("ann")).Dial(), srv.As(guest("bob")).Dial(), srv.As(guest("eve")).Dial()
	if err := ann.Call("whisper", Whisper{"bob", "psst"}, nil); err != nil {
		t.Fatal(err)
	}
	var got Message
	bob.Expect("whisper", &got)
	if got.From != "ann" || got.To != "bob" || got.Text != "psst" {
		t.Errorf("bob got %+v", got)
	}
	ann.Expect("whisper", nil) // for her other windows
	eve.ExpectNothing()
	if got := mooncore.CodeOf(ann.Call("whisper", Whisper{"carol", "psst"}, nil)); got != mooncore.CodeNotFound {
		t.Errorf("whisper to nobody: %q, want %q", got, mooncore.CodeNotFound)
	}
}

// Two servers find each other's people.
func TestNamesOnTwoServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := pubsub.NewLocal()
		cfg := testConfig()
		cfg.Broker = broker
		here := mooncoretest.New(t, cfg)
		cfg.Routers, cfg.Broker = Config().Routers, broker
		there := mooncoretest.New(t, cfg)
		synctest.Wait() // until they know each other
		ann, bob := here.As(guest("ann")).Dial(), there.As(guest("bob")).Dial()
		bob.Join("main") // as the page does
		if err := ann.Call("whisper", Whisper{"Bob", "psst"}, nil); err != nil {
			t.Fatal(err)
		}
		bob.Expect("whisper", nil)
		stranger := here.As(mooncore.Identity{})
		if got := mooncore.CodeOf(stranger.Call("login", Login{"bob"}, nil)); got != mooncore.CodeAlreadyExists {
			t.Errorf("login as somebody on another server: %q, want %q", got, mooncore.CodeAlreadyExists)
		}
	})
}

func TestPresence(t *testing.T) {
	srv := mooncoretest.New(t, testConfig())
	ann := srv.As(guest("ann")).Dial()
	expect := func(want presence) {
		t.Helper()
		var got presence
		ann.Expect("presence", &got)
		if got.Channel != want.Channel || !slices.Equal(got.Joined, want.Joined) || !slices.Equal(got.Left, want.Left) {
			t.Errorf("presence %+v, want %+v", got, want)
		}
	}
	ann.Join("room-general")
	expect(presence{"room-general", []string{"ann"}, nil})
	bob := srv.As(guest("bob")).Dial()
	bob.Join("room-general")
	expect(presence{"room-general", []string{"bob"}, nil})

	var members []mooncore.Member
	if err := ann.Call("who", Room{"room-general"}, &members); err != nil {
		t.Fatal(err)
	}
	if len(members) != 2 || members[0].User != "ann" || members[1].User != "bob" {
		t.Errorf("who: %+v", members)
	}
	var rooms []RoomInfo
	if err := ann.Call("rooms", nil, &rooms); err != nil {
		t.Fatal(err)
	}
	if want := []RoomInfo{{"room-general", 2}, {"room-random", 0}}; !slices.Equal(rooms, want) {
		t.Errorf("rooms: %+v, want %+v", rooms, want)
	}
	bob.Leave("room-general")
	expect(presence{"room-general", nil, []string{"bob"}})
}

// The page asks for what was said before it came, by a position behind which that is.
func TestNewcomersGetWhatWasSaid(t *testing.T) {
	srv := mooncoretest.New(t, testConfig())
	ann := srv.As(guest("ann"))
	for _, text := range []string{"one", "two", "three"} {
		if err := ann.Call("say", Say{"room-general", text}, nil); err != nil {
			t.Fatal(err)
		}
	}
	bob := srv.As(guest("bob")).Dial("mooncore.v1.history")
	at := bob.JoinSince("room-general", mooncoretest.Position{}).Position
	bob.Expect("presence", nil)
	at.Offset -= 2
	if got := bob.JoinSince("room-general", at); !got.Recovered {
		t.Fatalf("joined: %+v", got)
	}
	for _, want := range []string{"two", "three"} {
		var got Message
		if bob.Expect("message", &got); got.Text != want {
			t.Errorf("bob got %q, want %q", got.Text, want)
		}
	}
}

func TestRoomsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ann := mooncoretest.New(t, testConfig()).As(guest("ann"))
		say := func(room int) error { return ann.Call("say", Say{fmt.Sprint("room-", room), "hi"}, nil) }
		for i := range maxRooms - 2 { // two are there already
			if err := say(i); err != nil {
				t.Fatal(err)
			}
		}
		if got := mooncore.CodeOf(say(maxRooms)); got != mooncore.CodeFailedPrecondition {
			t.Errorf("one room more: %q", got)
		}
		time.Sleep(keptTime)
		if err := say(maxRooms); err != nil {
			t.Errorf("when nothing is kept of others: %v", err)
		}
	})
}

func TestStrangersAreRefused(t *testing.T) {
	stranger := mooncoretest.New(t, testConfig()).As(mooncore.Identity{})
	conn := stranger.Dial()
	for action, params := range map[string]any{
		"say": Say{"room-general", "hi"}, "whisper": Whisper{"ann", "hi"}, "who": Room{"room-general"},
		"rooms": nil,
	} {
		if got := mooncore.CodeOf(stranger.Call(action, params, nil)); got != mooncore.CodeUnauthenticated {
			t.Errorf("%s over HTTP: %q", action, got)
		}
		if got := mooncore.CodeOf(conn.Call(action, params, nil)); got != mooncore.CodeUnauthenticated {
			t.Errorf("%s over WebSocket: %q", action, got)
		}
	}
	if got := conn.Join("room-general"); len(got) > 0 {
		t.Errorf("a stranger joined %q", got)
	}
}

func TestRoomsNeedGoodNames(t *testing.T) {
	ann := mooncoretest.New(t, testConfig()).As(guest("ann")).Dial()
	for _, name := range []string{"room-", "room-a b", "room-<b>", "room-" + strings.Repeat("x", 31), "other"} {
		if got := ann.Join(name); len(got) != 1 {
			t.Errorf("joined %q", got)
		}
		if got := mooncore.CodeOf(ann.Call("say", Say{name, "hi"}, nil)); got != mooncore.CodeValidationFailed {
			t.Errorf("say in %q: %q", name, got)
		}
	}
}

func TestPageIsServedWithItsPolicy(t *testing.T) {
	srv := mooncoretest.New(t, testConfig())
	for _, test := range []struct{ path, contentType string }{
		{"/", "text/html"}, {"/chat.js", "text/javascript"}, {"/chat.css", "text/css"}, {"/icon.svg", "image/svg+xml"},
	} {
		w := httptest.NewRecorder()
		srv.ServeHTTP(w, httptest.NewRequest(http.MethodGet, test.path, nil))
		body, err := io.ReadAll(w.Body)
		header := w.Result().Header
		if err != nil || w.Code != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), test.contentType) {
			t.Errorf("%s: %d %s %v", test.path, w.Code, header.Get("Content-Type"), err)
		}
		policy := header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: Content-Security-Policy %q", test.path, policy)
		}
		if page := string(body); test.path == "/" && (strings.Contains(page, "<script>") || strings.Contains(page, "style=")) {
			t.Error("the page has inline script or style, which its policy forbids")
		}
	}
}
