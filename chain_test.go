package mooncore

import (
	"context"
	"testing"
)

// BenchmarkChain is a call of six middlewares and a handler, without what comes before and after.
func BenchmarkChain(b *testing.B) {
	passOn := Middleware(func(next Next) Next {
		return func(ctx context.Context, req *Request) (any, error) { return next(ctx, req) }
	})
	handler := func(context.Context, *Request) (any, error) { return nil, nil }
	chain := compose(nil, handler, []Middleware{passOn, passOn, passOn}, []Middleware{passOn, passOn, passOn})
	ctx, req := b.Context(), new(Request)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := chain(ctx, req); err != nil {
			b.Fatal(err)
		}
	}
}
