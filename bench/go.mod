module github.com/mooncore/mooncore/bench

go 1.26.0
