// Hello is the smallest Mooncore server: one public action.
package main

import (
	"context"
	"log"

	"github.com/mooncore/mooncore"
)

type Greeting struct {
	Name string `json:"name" validate:"required,min_length=1,max_length=50" jsonschema:"who is greeted"`
}

func hello(_ context.Context, in Greeting) (string, error) {
	return "Hello, " + in.Name, nil
}

func config() mooncore.Config {
	return mooncore.Config{Routers: []mooncore.Router{{
		Actions: []mooncore.Action{
			{Name: "hello", Allow: mooncore.Public, Handler: mooncore.Func(hello)},
		},
	}}}
}

func main() {
	if err := mooncore.Run(config()); err != nil {
		log.Fatal(err)
	}
}
