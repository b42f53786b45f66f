module github.com/mooncore/mooncore/internal/programs

go 1.26.0

require (
	github.com/alexedwards/scs/v2 v2.9.0
	github.com/go-chi/chi/v5 v5.5.0
	github.com/mooncore/mooncore v0.0.0
)

replace github.com/mooncore/mooncore => ../..
