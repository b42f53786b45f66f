package otelmooncore_test

import (
	"context"
	"log"
	"log/slog"
	"os"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdk "go.opentelemetry.io/otel/sdk/trace"

	"github.com/mooncore/mooncore"
	"github.com/mooncore/mooncore/otelmooncore"
)

// Traces go to a collector by OTLP, which OTEL_EXPORTER_OTLP_ENDPOINT names, and the log names the trace of each call.
func Example() {
	ctx := context.Background()
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		log.Fatal(err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter))

	err = mooncore.Run(mooncore.Config{
		Routers:    routers(provider.Tracer("tasks")),
		Logger:     slog.New(otelmooncore.LogHandler(slog.NewJSONHandler(os.Stderr, nil))),
		Extensions: []mooncore.Extension{otelmooncore.Extension(otelmooncore.Config{TracerProvider: provider})},
	})
	if err := provider.Shutdown(ctx); err != nil {
		log.Print(err)
	}
	if err != nil {
		log.Fatal(err)
	}
}
