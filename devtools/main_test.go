package devtools_test

import (
	"testing"

	"github.com/mooncore/mooncore/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
