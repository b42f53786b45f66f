package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"time"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/pubsub"
	"github.com/mooncore/mooncore/pubsub/natsbroker/embedded"
	"github.com/mooncore/mooncore/pubsub/redisbroker"
)

// nodeEnv makes the test binary be a server of TestRollingRestart. Its value is a node as JSON.
const nodeEnv = "VERIFY_NODE"

// A node says what one server has to know.
type node struct {
	Number  int      // of this process, from 1 on
	Records string   // the file that says which posts were done
	Redis   string   // its URL; else there is NATS in the program
	NATS    string   // where the others find this one's
	Peers   []string // that, and the others'
	Secret  string   // that NATS servers prove to each other
}

// longestPost is the longest time that a post takes.
const longestPost = 200 * time.Millisecond

// runNode is a server in production, as a program would be that uses no more than what the guides show.
func runNode(text string) error {
	var n node
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return err
	}
	records, err := os.OpenFile(n.Records, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer records.Close()
	broker, err := n.broker()
	if err != nil {
		return err
	}
	cfg := (&posts{n.Number, records}).config()
	cfg.Broker = broker
	return mooncore.Run(cfg)
}

func (n node) broker() (pubsub.Broker, error) {
	if n.Redis != "" {
		return redisbroker.Connect(n.Redis)
	}
	return embedded.Start(embedded.Options{Addr: n.NATS, Peers: n.Peers, Secret: n.Secret, History: &embedded.History{}})
}

// posts are what clients do.
type posts struct {
	node    int
	records *os.File
}

func (s *posts) config() mooncore.Config {
	return mooncore.Config{
		Logger:         slog.New(slog.NewJSONHandler(os.Stderr, nil)),
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")},
		JWT:            mooncore.JWTConfig{Issuer: "verify"},
		OnConnect:      func(_ context.Context, c *mooncore.Conn) error { return c.Send("node", s.node) },
		Routers: []mooncore.Router{{
			Channels: []mooncore.Channel{{Name: "room-*", Allow: mooncore.Authenticated, History: mooncore.History{Events: 1000}}},
			Actions: []mooncore.Action{
				{Name: "post", Allow: mooncore.Authenticated, Idempotency: time.Minute, Handler: mooncore.Func(s.post)},
			},
		}},
	}
}

// A post is the input of the action of that name.
type post struct {
	ID   string `json:"id" validate:"required"`
	Room string `json:"room" validate:"required"`
}

// A posted tells a room of a post.
type posted struct {
	ID string `json:"id"`
}

// post takes some time, as a database would.
func (s *posts) post(ctx context.Context, in post) (posted, error) {
	select {
	case <-time.After(rand.N(longestPost)):
	case <-ctx.Done():
		return posted{}, ctx.Err()
	}
	event := posted{in.ID}
	if err := mooncore.RequestFrom(ctx).Tenant().Publish(ctx, "posted", event, mooncore.ToChannel(in.Room)); err != nil {
		return posted{}, err
	}
	_, err := fmt.Fprintln(s.records, in.ID)
	return event, err
}
