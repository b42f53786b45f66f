package clusterpeers

import (
	"context"

	"github.com/redis/rueidis"

	"github.com/mooncore/mooncore/bench/internal/traffic"
)

// startRueidis starts the client alone: one connection publishes, another one has the subscriptions.
func startRueidis(c Config) (Node, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{c.Engine}, DisableCache: true, ForceSingleClient: true})
	if err != nil {
		return Node{}, err
	}
	if c.Deliver != nil {
		session, _ := client.Dedicate()
		session.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(m rueidis.PubSubMessage) {
			c.Deliver(traffic.Number(m.Channel), []byte(m.Message))
		}})
		subscribe := session.B().Subscribe().Channel(traffic.Name(0))
		for i := 1; i < c.Channels; i++ {
			subscribe = subscribe.Channel(traffic.Name(i))
		}
		if err := session.Do(context.Background(), subscribe.Build()).Error(); err != nil {
			return Node{}, err
		}
	}
	publish := func(channel int, payload []byte) error {
		command := client.B().Publish().Channel(traffic.Name(channel)).Message(rueidis.BinaryString(payload)).Build()
		return client.Do(context.Background(), command).Error()
	}
	return Node{Publish: publish}, nil
}
