//go:build unix

package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/mooncoretest"
	"github.com/mooncore/mooncore/pubsub"
)

// A place is a user in a channel. The names are such that places are mixed up where names are joined, cut or taken for a pattern.
type place struct{ tenant, scope, channel, user string }

var collisions = []place{
	{"a", "default", "c", "u"},
	{"", "default", "c", "u"},
	{"a:b", "default", "c", "u"},
	{"a", "b:default", "c", "b:u"},
	{"a", "b", "default", "default:u"},
	{"a.c", "default", "d", "u"},
	{"a", "default", "c.d", "@u"},
	{"*", "default", "c", "u"},
	{"a", "default", "*", "*"},
	{"a", "*", "c", "u*"},
	{">", "default", "c", "u"},
	{"a", "default", ">", ">"},
	{"a c", "default", "d", "u"},
	{"a", "default", "c d", "u u"},
	{"\u00e9", "default", "c", "u"},
	{"e\u0301", "default", "c", "u"},
	{"a", "default", "\u00e9", "\u00e9"},
	{"a", "default", "e\u0301", "e\u0301"},
}

func (p place) String() string {
	return fmt.Sprintf("%q", []string{p.tenant, p.scope, p.channel, p.user})
}

func (p place) identity(token int) mooncore.Identity {
	return mooncore.Identity{User: p.user, Tenant: p.tenant, Scope: p.scope, TokenID: fmt.Sprint("token", token)}
}

// An inhabitant has a connection with each of two servers. The third one publishes to them, asks for them, and ends them.
type inhabitant struct {
	place
	id    mooncore.Identity
	conns []*mooncoretest.Conn
	nodes []string // which these are with
	other *mooncoretest.Server
}

func (h *inhabitant) tenant() mooncore.Tenant { return h.other.Tenant("", h.place.tenant) }

// Everywhere has servers with a broker each do to users of each other what is to work across servers.
func Everywhere(t *testing.T, broker func(t *testing.T) pubsub.Broker) {
	var servers []*mooncoretest.Server
	for i := range 3 {
		servers = append(servers, mooncoretest.New(t, mooncore.Config{
			Broker: broker(t), Node: nodeName(i),
			Routers: []mooncore.Router{{
				Channels: []mooncore.Channel{{Name: "*", Allow: mooncore.Authenticated}},
				Actions: []mooncore.Action{{
					Name: "members", Allow: mooncore.Authenticated,
					Handler: mooncore.Func(func(ctx context.Context, in struct{ Channel string }) ([]mooncore.Member, error) {
						return mooncore.RequestFrom(ctx).Tenant().Members(ctx, in.Channel)
					}),
				}},
			}},
		}))
	}
	meet(t, servers)
	var all []*inhabitant
	for i, p := range collisions {
		h := &inhabitant{place: p, id: p.identity(i), other: servers[(i+2)%3]}
		for _, server := range []int{i % 3, (i + 1) % 3} {
			conn := servers[server].As(h.id).Dial()
			if got := conn.Join(p.channel); len(got) != 2 {
				t.Fatalf("%v: joined %q", p, got)
			}
			h.conns, h.nodes = append(h.conns, conn), append(h.nodes, nodeName(server))
		}
		slices.Sort(h.nodes)
		all = append(all, h)
	}
	hear(t, all)
	for _, h := range all {
		h.listed(t, 2)
	}
	ends := []struct {
		name string
		do   func(h *inhabitant) error
		code int
	}{
		{"Kick", func(h *inhabitant) error { return h.tenant().Kick(t.Context(), h.user) }, 1008},
		{"Revoke", func(h *inhabitant) error { return h.tenant().Revoke(t.Context(), h.user) }, 4401},
		{"RevokeToken", func(h *inhabitant) error { return h.other.RevokeToken(t.Context(), h.id.TokenID) }, 4401},
	}
	for len(all) > 0 {
		var stay []*inhabitant
		for i, h := range all {
			if i%2 > 0 {
				stay = append(stay, h)
				continue
			}
			end := ends[i/2%len(ends)]
			if err := end.do(h); err != nil {
				t.Fatalf("%s of %v: %v", end.name, h, err)
			}
			for _, conn := range h.conns {
				if code := conn.Closed(); code != end.code {
					t.Errorf("%s of %v: closed with %d, want %d", end.name, h, code, end.code)
				}
			}
			h.listed(t, 0)
		}
		all = stay
		hear(t, all) // so they are not concerned
	}
}

func nodeName(i int) string { return fmt.Sprint("node", i) }

// meet waits until all servers know each other.
func meet(t *testing.T, servers []*mooncoretest.Server) {
	t.Helper()
	for _, srv := range servers {
		srv.As(mooncore.Identity{User: "first", Tenant: "meeting"}).Dial().Join("c")
	}
	for _, srv := range servers {
		for deadline := time.Now().Add(settle); ; time.Sleep(10 * time.Millisecond) { // real time: the broker's
			members, err := srv.Tenant("", "meeting").Members(t.Context(), "c")
			if err == nil && len(members) == 1 && members[0].Conns == len(servers) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("members %+v, error %v", members, err)
			}
		}
	}
}

// hear publishes to each channel, to each user, and to both, twice: what came to the wrong ones has come with the second time.
func hear(t *testing.T, all []*inhabitant) {
	t.Helper()
	for round := range 2 {
		for _, h := range all {
			channel, user := mooncore.ToChannel(h.channel).Scope(h.scope), mooncore.ToUser(h.user)
			for event, to := range map[string][]mooncore.To{"channel": {channel}, "user": {user}, "both": {channel, user}} {
				if err := h.tenant().Publish(t.Context(), event, fmt.Sprint(h, round), to[0], to[1:]...); err != nil {
					t.Fatalf("to %v: %v", h, err)
				}
			}
		}
	}
	for _, h := range all {
		var want []string
		for _, event := range []string{"both", "channel", "user"} {
			for round := range 2 {
				want = append(want, event+" "+fmt.Sprint(h, round))
			}
		}
		for _, conn := range h.conns {
			var got []string
			for range want {
				event, payload := conn.Next()
				var text string
				if err := json.Unmarshal(payload, &text); err != nil {
					t.Fatal(err)
				}
				got = append(got, event+" "+text)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%v got\n%q, want\n%q", h, got, want)
			}
			conn.ExpectNothing()
		}
	}
}

// listed waits until the other server says so of the members of the channel: a client may see that its connection closed before the
// server has forgotten it.
func (h *inhabitant) listed(t *testing.T, conns int) {
	t.Helper()
	params, err := json.Marshal(map[string]string{"Channel": h.channel})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	if conns > 0 {
		want = append(want, fmt.Sprintf("%q: %d by %q", h.user, conns, h.nodes))
	}
	for deadline := time.Now().Add(settle); ; time.Sleep(time.Millisecond) { // real time: the broker's
		out, err := h.other.Call(t.Context(), &mooncore.Request{Action: "members", Identity: h.id, Params: params})
		if err != nil {
			t.Fatalf("members of %v: %v", h, err)
		}
		var got []string
		for _, m := range out.([]mooncore.Member) {
			got = append(got, fmt.Sprintf("%q: %d by %q", m.User, m.Conns, m.Nodes))
		}
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("members of %v: %q, want %q", h, got, want)
		}
	}
}
